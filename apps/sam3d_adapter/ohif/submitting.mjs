/** Labels on the server: what is stored with a mask, what is said of it, and how work is made of a stored one. */

import * as masks from './masks.mjs';
import * as objects from './objects.mjs';

/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./server.mjs').Task} Task */

const MOST_PROMPTS = 500;

/**
 * Objects of the user with something in them, in the order of their values.
 * @param {State} state
 */
export const filled = (state) => state.items.filter((item) => item.mask.length && objects.isOwn(item)).sort((a, b) => a.id - b.id);

/**
 * What goes with the label map: names by value for everybody, prompts for this panel.
 * @param {State} state @param {Task} task @param {string} author @param {(id: number) => number[]} colourOf
 * @returns {Record<string, unknown>}
 */
export function infoOf(state, task, author, colourOf) {
  return {
    model: task.name || undefined,
    author,
    // Values without gaps, for others read the names by their place in the list.
    label_info: filled(state).map((item, n) => ({
      name: item.name, idx: n + 1, description: task.description, color: colourOf(item.id), model_name: task.name || undefined,
    })),
    panel: {
      task: task.name,
      current: filled(state).findIndex((item) => item.id === state.current) + 1,
      objects: filled(state).map(({ name, prompts, start }, n) => ({
        id: n + 1, name, prompts: prompts.slice(-MOST_PROMPTS), is_drawn: Boolean(start) || prompts.length > MOST_PROMPTS,
      })),
    },
  };
}

/**
 * Whether training takes an object of that name for the task's: lesion, lesion 2, Lesion_3; not lesion2.
 * @param {string} name @param {string} label of the task
 */
export function isOfLabel(name, label) {
  const plain = (/** @type {string} */ text) => text.toLowerCase().replace(/[\s_-]+/g, ' ').trim();
  return [plain(name), plain(name).replace(/ (#?\d+|\(\d+\))$/, '')].includes(plain(label));
}

/** @param {string[]} names */
const quoted = (names) => names.map((name) => `"${name}"`).join(', ');

/** @param {State} state @param {(item: import('./objects.mjs').Item) => number} millilitres */
export const listOf = (state, millilitres) =>
  filled(state).map((item) => `"${item.name}" (${millilitres(item).toFixed(2)} ml)`).join(', ');

/**
 * What becomes of a final label in training.
 * @param {State} state
 * @param {Task} task
 * @param {boolean} [isProposal] whether it is what the server proposed, unchanged
 */
export function learning(state, task, isProposal = false) {
  if (!task.name) return '';
  if (isProposal) {
    return `It is the proposal unchanged: training of task "${task.name}" will learn from it once a second reader has accepted it.`;
  }
  const [own, other] = [filled(state).filter((item) => isOfLabel(item.name, task.label)), filled(state).filter((item) => !isOfLabel(item.name, task.label))];
  const kept = other.length ? ` ${quoted(other.map((item) => item.name))} will not be learned from by task "${task.name}", whose label is "${task.label}".` : '';
  if (!own.length) return kept.trim();
  const when = task.learnsFromAccepted ? ' once a second reader has accepted this label' : '';
  return `Training of task "${task.name}" will learn from ${other.length ? quoted(own.map((item) => item.name)) : 'it'}${when}.${kept}`;
}

/** @param {State} state @param {Mask | null | undefined} proposal whether all of the user's objects together are this */
export const isUnchanged = (state, proposal) =>
  Boolean(proposal) && masks.isSame(filled(state).reduce((all, item) => masks.union(all, item.mask), masks.EMPTY), /** @type {Mask} */ (proposal));

/** @param {any} info of a label @returns {string} */
export function origin(info) {
  const time = info.ts ? new Date(info.ts * 1000).toLocaleString() : 'an earlier day';
  return `${info.author ? `by ${info.author}, ` : ''}${time}`;
}

/**
 * What is known of a DICOM SEG, as of a label.
 * @param {{series: string, segments: string[], by: string, ts: number}} segmentation
 */
export const infoOfSegmentation = ({ segments, by, ts }) =>
  ({ author: by, ts, label_info: segments.map((name, n) => ({ name, idx: n + 1 })) });

/**
 * Whether a stored label is one of the task: it says so, or one of its segments has the task's label.
 * @param {any} info
 * @param {Task} task
 */
export function isOfTask(info, task) {
  if (!task.name) return true;
  const stated = info.panel?.task || info.model;
  return stated ? stated === task.name : (info.label_info || []).some((/** @type {any} */ one) => isOfLabel(String(one.name), task.label));
}

/**
 * Work that goes on from a stored label.
 * @param {Map<number, Mask>} found by value @param {any} info of the label @param {Task} task
 * @returns {State}
 */
export function stateOf(found, info, task) {
  const segments = [...(info.label_info || [])];
  const ours = new Map((info.panel?.objects || []).map((/** @type {any} */ one) => [one.id, one]));
  const items = [...found.keys()].sort((a, b) => a - b).map((id, n) => {
    const known = ours.get(id);
    const segment = segments.find((one) => one.idx === id) || segments[n];
    const mask = /** @type {Mask} */ (found.get(id));
    const name = known?.name || segment?.name || (n ? `${task.label} ${n + 1}` : task.label);
    const prompts = known?.prompts || [];
    // Clicks alone can be gone on with, and undone, as if the page had never been left.
    const start = known && !known.is_drawn && prompts.length ? null : { mask, after: prompts.length };
    return { ...objects.makeItem(id, String(name)), prompts, mask, start, answered: objects.keyOf(prompts, start) };
  });
  if (!items.length) return objects.begin(task.label);
  const wanted = info.panel?.current;
  return { items, current: items.some((item) => item.id === wanted) ? wanted : items[0].id };
}

/** @param {State} state @returns {{mask: Mask, value: number}[]} */
export const partsOf = (state) => filled(state).map((item, n) => ({ mask: item.mask, value: n + 1 }));

/** @param {State} state */
export const voxels = (state) => filled(state).reduce((sum, item) => sum + masks.count(item.mask), 0);
