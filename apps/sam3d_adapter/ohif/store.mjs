/** What the browser keeps for this user: work that is not on the server yet, the name, the last task. */

import * as masks from './masks.mjs';

/** @typedef {import('./objects.mjs').State} State */

const WORK = 'sam3d.work.';
const MOST = 12;

/** @param {State} state */
const toJson = (state) => ({
  ...state,
  items: state.items.map((item) => ({
    ...item,
    mask: masks.toText(item.mask),
    start: item.start && { ...item.start, mask: masks.toText(item.start.mask) },
  })),
});

/** @param {any} json @returns {State} */
const fromJson = (json) => ({
  ...json,
  items: json.items.map((/** @type {any} */ item) => ({
    ...item,
    mask: masks.fromText(item.mask),
    start: item.start && { ...item.start, mask: masks.fromText(item.start.mask) },
  })),
});

/** @param {string} name @returns {any} */
function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name) || 'null');
  } catch {
    return null;
  }
}

/** @returns {string[]} names, the newest last */
const names = () =>
  Object.keys(localStorage).filter((name) => name.startsWith(WORK)).sort((a, b) => (read(a)?.time || 0) - (read(b)?.time || 0));

/** @param {string} key of series and task @param {State} state */
export function keep(key, state) {
  const text = JSON.stringify({ time: Date.now(), state: toJson(state) });
  for (const name of names().slice(0, -MOST)) localStorage.removeItem(name);
  try {
    localStorage.setItem(WORK + key, text);
  } catch {
    // Full: the oldest work of others gives way.
    const [oldest] = names();
    if (oldest && oldest !== WORK + key) {
      localStorage.removeItem(oldest);
      keep(key, state);
    }
  }
}

/** @param {string} key @returns {{time: number, state: State} | null} */
export function find(key) {
  const found = read(WORK + key);
  try {
    return found && { time: found.time, state: fromJson(found.state) };
  } catch {
    return null; // of another version of this panel
  }
}

/** @param {string} key */
export const forget = (key) => localStorage.removeItem(WORK + key);

export const author = () => localStorage.getItem('sam3d.author') || '';
/** @param {string} name */
export const rememberAuthor = (name) => localStorage.setItem('sam3d.author', name);

/** @param {string} modality */
export const lastTask = (modality) => localStorage.getItem(`sam3d.task.${modality}`);
/** @param {string} modality @param {string} name */
export const rememberTask = (modality, name) => localStorage.setItem(`sam3d.task.${modality}`, name);

/**
 * Whether a section of the panel is open.
 * @param {string} name
 */
export const isOpen = (name) => localStorage.getItem(`sam3d.section.${name}`) !== 'closed';
/** @param {string} name @param {boolean} isNow */
export const rememberOpen = (name, isNow) => localStorage.setItem(`sam3d.section.${name}`, isNow ? 'open' : 'closed');

/** This page, as others tell it from theirs: kept by a reload, not shared with another tab. */
export function client() {
  let id = sessionStorage.getItem('sam3d.client');
  if (!id) {
    id = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join('');
    sessionStorage.setItem('sam3d.client', id);
  }
  return id;
}
