/**
 * Objects with their prompts, and every step that changes them: pure functions from one state to the next.
 */

import * as masks from './masks.mjs';

/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {'+' | '-' | 'box'} Sign */
/**
 * @typedef {object} Prompt
 * @property {Sign} sign
 * @property {Triple} ijk voxel; of a box, its first corner
 * @property {Triple} [to] of a box, its last corner
 * @property {[Triple, Triple][]} [drawn] of a box, the rectangles that it was drawn with
 */
/**
 * @typedef {object} Start what clicks go on from: a mask that was drawn by hand, or stored before
 * @property {Mask} mask
 * @property {number} after how many of the object's prompts it came
 */
/**
 * @typedef {object} Item an object in the image
 * @property {number} id from 1; the value in the label map
 * @property {string} name
 * @property {boolean} visible
 * @property {boolean} locked
 * @property {Prompt[]} prompts
 * @property {Start | null} start
 * @property {Mask} mask
 * @property {string | null} answered key of the prompts that the mask answers
 * @property {'shown' | 'used'} [proposal] of what the server proposed: is no work of the user before it was accepted or
 *   changed
 */
/**
 * @typedef {object} State
 * @property {Item[]} items
 * @property {number} current id
 */

/** @param {string} label of the task @returns {State} */
export const begin = (label) => ({ items: [makeItem(1, label)], current: 1 });

/** @param {number} id @param {string} name @returns {Item} */
export const makeItem = (id, name) => ({
  id,
  name,
  visible: true,
  locked: false,
  prompts: [],
  start: null,
  mask: masks.EMPTY,
  answered: keyOf([], null),
});

/**
 * What an answer depends on, in a text.
 * @param {Prompt[]} prompts @param {Start | null} start
 */
export function keyOf(prompts, start) {
  const own = start ? prompts.slice(start.after) : prompts;
  const said = own.map(({ sign, ijk, to }) => `${sign}${ijk.join(',')}${to ? `:${to.join(',')}` : ''}`).join(' ');
  return start ? `${said} from ${start.after}/${masks.count(start.mask)}/${hash(start.mask)}` : said;
}

/** @param {Mask} mask */
function hash(mask) {
  let value = 17;
  for (const edge of mask) value = (Math.imul(value, 31) + edge) | 0;
  return value;
}

/** @param {Item} item whether it is the user's, and no proposal that was only looked at */
export const isOwn = (item) => item.proposal !== 'shown';

/**
 * A proposal that was accepted or changed is the user's own.
 * @param {Item} item
 * @returns {Item}
 */
const used = (item) => (isOwn(item) ? item : { ...item, proposal: 'used' });

/** @param {State} state @returns {Item} */
export const current = (state) => /** @type {Item} */ (state.items.find((item) => item.id === state.current));

/** @param {Item} item */
export const needsAnswer = (item) => item.answered !== keyOf(item.prompts, item.start);

/** @param {Item} item whether a server can answer it: it knows where to look */
export const canBeAsked = (item) => Boolean(item.start) || item.prompts.some((prompt) => prompt.sign !== '-');

/**
 * A box around rectangles on one or several slices. Across a single slice it is as deep as it is wide.
 * @param {[Triple, Triple][]} drawn @param {import('./geometry.mjs').Grid} grid
 * @returns {Prompt}
 */
export function boxOf(drawn, { shape, steps }) {
  const low = [0, 1, 2].map((axis) => Math.min(...drawn.map(([first]) => first[axis])));
  const high = [0, 1, 2].map((axis) => Math.max(...drawn.map(([, last]) => last[axis])));
  const mm = steps.map((step) => Math.hypot(...step));
  const extents = [0, 1, 2].filter((axis) => high[axis] > low[axis]).map((axis) => (high[axis] - low[axis] + 1) * mm[axis]);
  const width = extents.reduce((sum, extent) => sum + extent, 0) / (extents.length || 1);
  for (const axis of [0, 1, 2]) {
    if (high[axis] > low[axis]) continue;
    const half = Math.max(1, Math.round(width / mm[axis] / 2));
    low[axis] = Math.max(0, low[axis] - half);
    high[axis] = Math.min(shape[axis] - 1, high[axis] + half);
  }
  return { sign: 'box', ijk: /** @type {Triple} */ (low), to: /** @type {Triple} */ (high), drawn };
}

/**
 * @param {State} state @param {number} id @param {(item: Item) => Item} change
 * @returns {State}
 */
function withItem(state, id, change) {
  return { ...state, items: state.items.map((item) => (item.id === id ? change(item) : item)) };
}

/**
 * What is left of an object without any prompt is what it started from.
 * @param {Item} item
 * @returns {Item}
 */
function settled(item) {
  const own = item.start ? item.prompts.slice(item.start.after) : item.prompts;
  if (own.some((prompt) => item.start || prompt.sign !== '-')) return item;
  return { ...item, mask: item.start ? item.start.mask : masks.EMPTY, answered: keyOf(item.prompts, item.start) };
}

/** @param {State} state @param {Prompt} prompt of the current object @returns {State} */
export function addPrompt(state, prompt) {
  return withItem(state, state.current, (item) => {
    // The server takes one box: a new one takes the place of the one before.
    const others = prompt.sign === 'box' ? item.prompts.filter((one) => one.sign !== 'box') : item.prompts;
    const gone = item.start ? item.prompts.slice(0, item.start.after).filter((one) => !others.includes(one)).length : 0;
    const start = item.start && gone ? { ...item.start, after: item.start.after - gone } : item.start;
    return settled({ ...used(item), prompts: [...others, prompt], start });
  });
}

/** @param {State} state @param {number} id of the object @param {number} n which prompt of it @returns {State} */
export function removePrompt(state, id, n) {
  return withItem(state, id, (item) => {
    const start = item.start && n < item.start.after ? { ...item.start, after: item.start.after - 1 } : item.start;
    return settled({ ...item, prompts: item.prompts.filter((_, other) => other !== n), start });
  });
}

/**
 * Without prompts and mask.
 * @param {State} state
 * @returns {State}
 */
export const resetItem = (state) =>
  withItem(state, state.current, (item) => ({ ...makeItem(item.id, item.name), visible: item.visible }));

/**
 * The label, or the first of label 2, label 3, ... that is free.
 * @param {State} state @param {string} label
 */
export function freeName(state, label) {
  const taken = new Set(state.items.map((item) => item.name.toLowerCase()));
  for (let n = 1; ; n++) {
    const name = n === 1 ? label : `${label} ${n}`;
    if (!taken.has(name.toLowerCase())) return name;
  }
}

/** @param {State} state @param {string} label of the task @returns {State} with one more object, which is the current one */
export function addItem(state, label) {
  const taken = new Set(state.items.map((item) => item.id));
  let id = 1;
  while (taken.has(id)) id++;
  return { items: [...state.items, makeItem(id, freeName(state, label))], current: id };
}

/** @param {State} state @param {number} id @param {string} label @returns {State} */
export function removeItem(state, id, label) {
  const items = state.items.filter((item) => item.id !== id);
  if (!items.length) return begin(label);
  return { items, current: state.current === id ? items[items.length - 1].id : state.current };
}

/** @param {State} state @param {number} id @returns {State} */
export const choose = (state, id) => ({ ...state, current: id });

/** @param {State} state @param {number} id @param {Partial<Pick<Item, 'name' | 'visible' | 'locked'>>} facts @returns {State} */
export const describe = (state, id, facts) => withItem(state, id, (item) => ({ ...item, ...facts }));

/**
 * Voxels that an answer for an object must leave alone.
 * @param {State} state @param {number} id @param {boolean} mayOverwrite whether only locked objects are kept
 * @returns {Mask}
 */
export function keptFrom(state, id, mayOverwrite) {
  return state.items
    .filter((item) => item.id !== id && isOwn(item) && (item.locked || !mayOverwrite))
    .reduce((all, item) => masks.union(all, item.mask), masks.EMPTY);
}

/**
 * An answer takes its place, if the object still has the prompts that it answers.
 * @param {State} state @param {number} id @param {string} key @param {Mask} answer @param {boolean} mayOverwrite
 * @returns {State}
 */
export function withAnswer(state, id, key, answer, mayOverwrite) {
  const item = state.items.find((one) => one.id === id);
  if (!item || item.answered === key || keyOf(item.prompts, item.start) !== key) return state;
  const mask = masks.subtract(answer, keptFrom(state, id, mayOverwrite));
  return {
    ...state,
    items: state.items.map((one) => {
      if (one.id === id) return { ...one, mask, answered: key };
      const left = isOwn(one) && mayOverwrite && !one.locked ? masks.subtract(one.mask, mask) : one.mask;
      return left === one.mask ? one : { ...one, mask: left };
    }),
  };
}

/**
 * What was drawn by hand: clicks go on from there.
 * @param {State} state @param {Map<number, Mask>} drawn by id, of the objects that changed
 * @returns {State}
 */
export function withDrawing(state, drawn) {
  return {
    ...state,
    items: state.items.map((item) => {
      const mask = drawn.get(item.id);
      if (!mask) return item;
      const start = { mask, after: item.prompts.length };
      return { ...used(item), mask, start, answered: keyOf(item.prompts, start) };
    }),
  };
}

/**
 * With a mask that the server proposes as the current object: in place of an empty one, if that is at hand.
 * @param {State} state @param {Mask} mask @param {string} label of the task
 * @returns {State}
 */
export function withProposal(state, mask, label) {
  const { prompts, mask: drawn } = current(state);
  const made = prompts.length || drawn.length ? addItem(state, label) : state;
  const start = { mask, after: 0 };
  return withItem(made, made.current, (item) => ({ ...item, mask, start, answered: keyOf([], start), proposal: 'shown' }));
}

/** @param {State} state @returns {State} in which the proposal is the user's own */
export const withProposalAccepted = (state) => ({ ...state, items: state.items.map(used) });

/** @param {State} state */
export const isEmpty = (state) => state.items.every((item) => !isOwn(item) || (!item.prompts.length && !item.mask.length));

/**
 * Whether two states hold the same work; what is shown or locked is none.
 * @param {State} a @param {State} b
 */
export function isSameWork(a, b) {
  const [own, others] = [a.items.filter(isOwn), b.items.filter(isOwn)];
  return a === b || (own.length === others.length && own.every((item, n) => {
    const other = others[n];
    return item.id === other.id && item.name === other.name && item.prompts === other.prompts && item.mask === other.mask;
  }));
}
