/** Work and the labels on the server: saving, opening, and bringing back what was not saved. */

import * as files from './files.mjs';
import * as histories from './history.mjs';
import * as objects from './objects.mjs';
import * as server from './server.mjs';
import * as store from './store.mjs';
import * as submitting from './submitting.mjs';
import { colourOf } from './viewer.mjs';
import { isUnsaved, labelKey } from './work.mjs';

/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./viewer.mjs').Series} Series */
/** @typedef {import('./work.mjs').Work} Work */

export class Saving {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    this.author = store.author();
    this.isSubmitting = false;
    /** @type {(() => void) | null} told after a label was stored */
    this.onStored = null;
  }

  /**
   * Labels on the server that are not what is at hand.
   * @returns {{tag: 'draft' | 'final', text: string}[]}
   */
  get offers() {
    const work = this._session.work;
    if (!work) return [];
    return /** @type {('draft' | 'final')[]} */ (['draft', 'final'])
      .filter((tag) => work.stored.has(tag) && !work.seen.has(labelKey(tag, work.stored.get(tag))))
      .map((tag) => ({ tag, text: `${tag === 'draft' ? 'Draft' : 'Final label'} ${submitting.origin(work.stored.get(tag))}` }));
  }

  /** @param {string} name */
  setAuthor(name) {
    store.rememberAuthor(name.trim());
    this._session.change(() => (this.author = name.trim()));
  }

  /** @param {'draft' | 'final'} tag */
  async submit(tag) {
    const [work, state, series, task] = [this._session.work, this._session.state, this._session.series, this._session.chosen];
    if (!work || !state || !series || !task || this.isSubmitting) return;
    if (this._session.answering.isAsking || (this._session.item && objects.needsAnswer(this._session.item) && objects.canBeAsked(this._session.item))) {
      return this._session.tell('warning', 'An answer is under way. Submit when it is there, or call it off with Esc.');
    }
    if (!this._session.hasMask) return this._session.tell('warning', 'There is no mask to store yet. Click on the structure first.');
    const act = () => void this._store(tag, work, state, series, task);
    if (tag === 'draft') return act();
    const before = work.stored.get('final');
    const replaced = before ? ` It replaces the final label ${submitting.origin(before)}.` : '';
    const text = `Submit ${submitting.listOf(state, (item) => this._session.millilitres(item))} as final? ${submitting.learning(state, task)}${replaced}`;
    return this._session.ask({ text, label: 'Submit final', act });
  }

  /**
   * @param {'draft' | 'final'} tag @param {Work} work @param {State} state @param {Series} series @param {Task} task
   * @param {boolean} [mayReplace] whether a draft of somebody else may be lost
   * @returns {Promise<void>}
   */
  async _store(tag, work, state, series, task, mayReplace = false) {
    this._session.change(() => (this.isSubmitting = true));
    try {
      const there = tag === 'draft' ? await server.labelInfo(series.uid, tag) : null;
      if (there && !work.seen.has(labelKey(tag, there)) && !mayReplace) {
        work.stored.set(tag, there);
        return this._session.ask({
          text: `The server has another draft of this series, ${submitting.origin(there)}. Replace it with yours?`,
          label: 'Replace it', act: () => void this._store(tag, work, state, series, task, true),
        });
      }
      const info = submitting.infoOf(state, task, this.author, colourOf);
      const label = await files.writeNrrd(series.grid, submitting.partsOf(state));
      const warnings = await server.saveLabel(series.uid, tag, info, label);
      const saved = await server.labelInfo(series.uid, tag);
      work.saved = state;
      if (saved) {
        work.stored.set(tag, saved);
        work.seen.add(labelKey(tag, saved));
      }
      this.keep();
      const where = saved?.SeriesInstanceUID
        ? `in the PACS, as DICOM SEG "${task.name}" (series ${saved.SeriesInstanceUID}), and on this server`
        : 'on this server';
      const list = submitting.listOf(state, (item) => this._session.millilitres(item));
      const fate = tag === 'draft' ? 'Nothing learns from a draft.' : submitting.learning(state, task);
      this._session.tell(warnings.length ? 'warning' : 'info', [`Stored as ${tag}: ${list}, ${where}. ${fate}`, ...warnings].join(' '));
    } catch (error) {
      this._session.fail(error, { label: 'Try again', act: () => void this.submit(tag) });
    } finally {
      this._session.change(() => (this.isSubmitting = false));
      void this.onStored?.();
    }
    return undefined;
  }

  /** @param {'draft' | 'final'} tag */
  async openStored(tag) {
    const [work, series, task] = [this._session.work, this._session.series, this._session.chosen];
    const info = work?.stored.get(tag);
    if (!work || !series || !task || !info) return;
    try {
      const map = await server.loadLabel(series.uid, tag);
      files.requireGrid(map, series.grid);
      const state = submitting.stateOf(files.masksOf(map), info, task);
      const was = work.history.present;
      work.history = histories.push(work.history, state);
      work.seen.add(labelKey(tag, info));
      work.saved = state;
      this.keep();
      this._session.refresh();
      const undo = objects.isEmpty(was) ? '' : ' Undo brings back what was here.';
      this._session.tell('info', `Opened the ${tag === 'draft' ? 'draft' : 'final label'} ${submitting.origin(info)}. Click to go on with it.${undo}`);
    } catch (error) {
      this._session.fail(error);
    }
  }

  /** In this browser, until it is on the server. */
  keep() {
    const work = this._session.work;
    if (!work || !this._session.series) return;
    if (isUnsaved(work)) store.keep(this._session.key, work.history.present);
    else store.forget(this._session.key);
  }

  /** What this browser kept, and what the server has, of the work that was chosen. */
  async bringBack() {
    const [work, series, task] = [this._session.work, this._session.series, this._session.chosen];
    if (!work || !series || !task) return this._session.refresh();
    if (objects.isEmpty(work.history.present) && !work.history.past.length) {
      const found = store.find(this._session.key);
      if (found && !objects.isEmpty(found.state)) {
        work.history = histories.push(work.history, found.state);
        this._session.tell('info', `Your unsaved work of ${new Date(found.time).toLocaleString()} was brought back.`);
      }
    }
    this._session.refresh();
    return this._findStored(work, series, task);
  }

  /** @param {Work} work @param {Series} series @param {Task} task */
  async _findStored(work, series, task) {
    try {
      for (const tag of ['draft', 'final']) {
        const info = await server.labelInfo(series.uid, tag);
        if (info && submitting.isOfTask(info, task)) work.stored.set(tag, info);
      }
    } catch (error) {
      return this._session.fail(error);
    }
    this._session.change(() => {});
    if (!this._session.notices.length) this._session.tell('info', `Click on the ${task.label} in any of the views.`);
    const [draft, final] = [work.stored.get('draft'), work.stored.get('final')];
    const isOwn = draft && (!draft.author || draft.author === this.author);
    // A draft is there to be gone on with; a final label waits until it is asked for.
    if (work !== this._session.work || !isOwn || (final && final.ts >= draft.ts)) return undefined;
    return objects.isEmpty(work.history.present) ? this.openStored('draft') : undefined;
  }
}
