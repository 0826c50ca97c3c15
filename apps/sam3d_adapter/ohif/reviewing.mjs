/** The second reader: whose label of the series waits for a review decision, and what one decides on it. */

import * as objects from './objects.mjs';
import * as server from './server.mjs';
import { origin } from './submitting.mjs';
import { labelKey } from './work.mjs';

/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {'accept' | 'reject' | 'withdraw'} Decision */
/**
 * @typedef {object} Label a submitted one on the server
 * @property {string} id changes with its voxels
 * @property {string} tag
 * @property {'draft' | 'submitted' | 'accepted' | 'rejected' | 'corrected'} state
 * @property {string} author
 * @property {number} saved_at seconds since 1970
 * @property {string} series of its DICOM SEG
 * @property {boolean} is_current
 * @property {{by: string, comment: string} | null} review the newest
 */

const ORDER = ['submitted', 'accepted', 'rejected', 'corrected'];
const DONE = {
  accept: 'is accepted now',
  reject: 'is rejected now: nothing learns from it, and its case is offered again',
  withdraw: 'waits for a review decision again',
};

/**
 * Labels that can be reviewed: those that wait for it first, then the newest.
 * @param {Label[]} labels
 */
export const reviewable = (labels) => labels
  .filter((label) => label.is_current && label.state !== 'draft')
  .sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || b.saved_at - a.saved_at || a.tag.localeCompare(b.tag));

/** @param {Label} label */
export const nameOf = ({ tag, author, saved_at: ts }) =>
  `${tag === 'final' ? 'Final label' : `Label "${tag}"`} ${origin({ author, ts })}`;

/** @param {Label} label @returns {string} its state in words */
export function stateOf({ state, review }) {
  if (state === 'submitted' || !review) return 'submitted, waits for a review decision';
  return `${state}${review.by ? ` by ${review.by}` : ''}${review.comment ? `: ${review.comment}` : ''}`;
}

export class Reviewing {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    /** @type {Label[]} */
    this.labels = [];
    /** Whether the server has said which labels there are, or did not answer. */
    this.isKnown = false;
    this.isBusy = false;
    this._chosen = '';
    /** @type {Set<string>} */
    this._seen = new Set();
  }

  /** @returns {Label | undefined} the one at hand */
  get label() {
    return this.labels.find(({ id }) => id === this._chosen) || this.labels[0];
  }

  /** Whether its voxels were shown on this page. */
  get isSeen() {
    const [label, work] = [this.label, this._session.work];
    if (!label || this._seen.has(label.id)) return Boolean(label);
    const stored = work?.stored.get(label.tag);
    return Boolean(stored && stored.ts === label.saved_at && work?.seen.has(labelKey(label.tag, stored)));
  }

  /** Whether there is a change of it that can be submitted. */
  get isCorrected() {
    const work = this._session.work;
    if (!work?.parent || work.parent !== this.label?.id || !this._session.hasMask) return false;
    return !work.opened || !objects.isSameWork(work.history.present, work.opened);
  }

  /** What the server has now. */
  async refresh() {
    const series = this._session.series?.uid;
    if (!series) return;
    try {
      const labels = reviewable(await server.listLabels(series));
      if (series === this._session.series?.uid) this.labels = labels;
    } catch {
      // A server that is away is said where it matters.
    }
    this._session.change(() => (this.isKnown = true));
  }

  /** Another series is on screen. */
  reset() {
    [this.labels, this._chosen, this.isKnown] = [[], '', false];
    void this.refresh();
  }

  /** @param {string} id */
  choose(id) {
    this._session.change(() => (this._chosen = id));
  }

  async open() {
    const [label, series] = [this.label, this._session.series];
    if (!label || !series || this.isBusy) return;
    this._chosen = label.id;
    await this._act(async () => {
      const info = await server.labelInfo(series.uid, label.tag);
      // Of a PACS, this server may have lost the file, or have an older one.
      const stored = info && (!label.series || info.SeriesInstanceUID === label.series) ? info : null;
      const task = stored?.panel?.task || stored?.model;
      if (task !== this._session.task && this._session.tasks.some(({ name }) => name === task)) await this._session.chooseTask(task);
      if (!(await this._session.saving.openLabel(label, stored))) return;
      if (this._session.state) this._session.editing.jumpTo(this._session.state.current);
      // It was this label that was opened, if it is still there.
      await this.refresh();
      if (this.labels.some(({ id }) => id === label.id)) this._session.change(() => this._seen.add(label.id));
      else this._session.tell('warning', 'This label was replaced in the meantime. Open the new one.');
    });
  }

  /** @param {Decision} decision @param {string} comment @returns {Promise<boolean>} whether the server took it */
  async decide(decision, comment) {
    const [label, by] = [this.label, this._session.saving.author];
    if (!label || this.isBusy) return false;
    if (!by) return this._refuse('Write your name below ("By") first: a review decision is kept with the name of the reader.');
    if (decision === 'reject' && !comment) return this._refuse('Say what is wrong with the label first, so that it can be done anew.');
    if (decision !== 'withdraw' && !this.isSeen) {
      return this._refuse('Look at the label first.', { label: 'Open it', act: () => void this.open() });
    }
    this._chosen = label.id;
    return this._act(async () => {
      await server.review({ label: label.id, decision, by, comment });
      this._session.tell('info', `${nameOf(label)}: it ${DONE[decision]}.`);
      this._session.saving.onStored?.();
    });
  }

  correct() {
    if (this.label) void this._session.saving.submit('final', this.label);
  }

  /** @param {string} text @param {import('./session.mjs').Notice['action']} [action] */
  _refuse(text, action) {
    this._session.tell('warning', text, action);
    return false;
  }

  /** @param {() => Promise<void>} act @returns {Promise<boolean>} whether it was done */
  async _act(act) {
    this._session.change(() => (this.isBusy = true));
    try {
      await act();
      return true;
    } catch (error) {
      this._session.fail(error);
      return false;
    } finally {
      this._session.change(() => (this.isBusy = false));
      await this.refresh();
    }
  }
}
