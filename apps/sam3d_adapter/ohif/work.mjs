/** Work on one series with one task: its steps, and what the server has of it. */

import * as histories from './history.mjs';
import * as objects from './objects.mjs';

/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./proposing.mjs').Proposal} Proposal */
/**
 * @typedef {object} Work on one series with one task
 * @property {histories.History<State>} history
 * @property {State} saved the state that is stored on the server, or has nothing to lose
 * @property {Map<string, any>} stored by tag, what the server says of the labels that it has
 * @property {any[]} segmentations what the PACS has of other hands, and of earlier days
 * @property {Set<string>} seen labels of the server that this work made, or goes on from
 * @property {string} parent id of the submitted label that it goes on from; empty for none
 * @property {State | null} opened that label, as it was opened on this page
 * @property {Proposal | null} proposal what the server proposes for the series
 */

/** @param {string} label of the task @returns {Work} */
export function begin(label) {
  const present = objects.begin(label);
  return { history: histories.open(present), saved: present, stored: new Map(), segmentations: [], seen: new Set(), parent: '', opened: null, proposal: null };
}

/** @param {Work} work whether something would be lost */
export const isUnsaved = ({ history: { present }, saved }) =>
  !objects.isSameWork(present, saved) && !(objects.isEmpty(present) && objects.isEmpty(saved));

/**
 * One version of a label on the server, as a text.
 * @param {string} tag @param {any} info of a label
 */
export const labelKey = (tag, info) => `${tag} ${info.ts} ${info.author || ''}`;
