/**
 * Undo and redo: states in a row. Pure functions.
 *
 * @template S
 * @typedef {object} History
 * @property {S[]} past oldest first
 * @property {S} present
 * @property {S[]} future next first
 */

const MOST = 200;

/** @template S @param {S} present @returns {History<S>} */
export const open = (present) => ({ past: [], present, future: [] });

/** @template S @param {History<S>} history @param {S} next @returns {History<S>} */
export function push({ past, present }, next) {
  return { past: [...past, present].slice(-MOST), present: next, future: [] };
}

/** @template S @param {History<S>} history @returns {History<S>} */
export function undo({ past, present, future }) {
  if (!past.length) return { past, present, future };
  return { past: past.slice(0, -1), present: past[past.length - 1], future: [present, ...future] };
}

/** @template S @param {History<S>} history @returns {History<S>} */
export function redo({ past, present, future }) {
  if (!future.length) return { past, present, future };
  return { past: [...past, present], present: future[0], future: future.slice(1) };
}

/**
 * The same change in every state: what is no step of its own, such as a name or an answer that arrives.
 * @template S @param {History<S>} history @param {(state: S) => S} change @returns {History<S>}
 */
export function amend({ past, present, future }, change) {
  return { past: past.map(change), present: change(present), future: future.map(change) };
}
