/** The cases of the server: their state, who has one open, and the next one. */

import * as server from './server.mjs';
import * as store from './store.mjs';

/** @typedef {import('./session.mjs').Session} Session */
/**
 * @typedef {object} Case
 * @property {string} id SeriesInstanceUID
 * @property {string} study StudyInstanceUID
 * @property {string} modality
 * @property {string} description
 * @property {'new' | 'draft' | 'submitted' | 'accepted' | 'rejected' | 'skipped' | 'problem'} state
 * @property {string} by
 * @property {string} comment why it was rejected, skipped or marked
 * @property {{structure: string, predicted_dice: any} | null} proposal of a new case
 * @property {string[]} open_by
 */

const BEAT_MS = 45_000;

export class Cases {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    /** @type {Set<() => void>} */
    this._views = new Set();
    /** @type {Case[]} */
    this.list = [];
    this.isOpen = false;
    this.isBusy = false;
    /** @type {string[]} */
    this.others = [];
    this._told = '';
    session.subscribe(() => {
      const uid = session.series?.uid || '';
      if (uid !== this._told) void this._tell(uid);
    });
    session.saving.onStored = () => void this.refresh();
    this._timer = setInterval(() => {
      void this._tell(this._told);
      void session.reviewing.refresh();
    }, BEAT_MS);
  }

  end() {
    clearInterval(this._timer);
  }

  /** @param {() => void} view called after each change */
  subscribe(view) {
    this._views.add(view);
  }

  /** @param {() => void} change */
  _set(change) {
    change();
    for (const view of this._views) view();
  }

  /**
   * Tells the server, and so others, what is on screen here.
   * @param {string} series
   */
  async _tell(series) {
    this._told = series;
    if (!series) return;
    try {
      const { open_by: others } = await server.openCase(series, this._session.saving.author, store.client());
      const newcomers = others.filter((/** @type {string} */ name) => !this.others.includes(name));
      this._set(() => (this.others = others));
      if (newcomers.length) {
        this._session.tell('warning', `${newcomers.join(', ')} also has this series open. Agree on who submits it: the last one counts.`);
      }
    } catch {
      // Of no use while the server is away; the next click says that it is.
    }
  }

  /** @param {boolean} isOpen */
  show(isOpen) {
    store.rememberOpen('cases', isOpen);
    this._set(() => (this.isOpen = isOpen));
    if (isOpen) void this.refresh();
  }

  async refresh() {
    if (!this.isOpen) return;
    try {
      const list = await server.listCases(store.client());
      this._set(() => (this.list = list));
    } catch (error) {
      this._session.fail(error);
    }
  }

  /** @param {Case} one */
  go(one) {
    if (!one.study) return this._session.tell('warning', 'The server does not say which study this is. Open it from the list of studies.');
    return this._session.leave(() => server.showStudy(one.study));
  }

  async next() {
    this._set(() => (this.isBusy = true));
    try {
      const strategies = Object.keys(this._session.info.strategies || {});
      const open = this._session.series?.uid;
      for (let n = 0; n < 3; n++) {
        const found = await server.nextSample(strategies[0] || 'random', store.client());
        if (!found.id) break;
        if (found.id === open) continue;
        const study = found.StudyInstanceUID || (await server.listCases(store.client())).find((/** @type {Case} */ one) => one.id === found.id)?.study;
        if (study) return this._session.leave(() => server.showStudy(study));
      }
      this._session.tell('info', 'There is no other case without a label that nobody else works on.');
    } catch (error) {
      this._session.fail(error);
    } finally {
      this._set(() => (this.isBusy = false));
    }
    return undefined;
  }
}
