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
/** @typedef {import('./reviewing.mjs').Label} Label */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./viewer.mjs').Series} Series */
/** @typedef {import('./work.mjs').Work} Work */

const MOST_OTHERS = 3;

export class Saving {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    this.author = store.author();
    this.isSubmitting = false;
    this._isKept = true;
    /** @type {(() => void) | null} told after a label was stored */
    this.onStored = null;
  }

  /**
   * Labels on the server and in the PACS that are not what is at hand.
   * @returns {{name: string, text: string, open: () => void}[]}
   */
  get offers() {
    const work = this._session.work;
    if (!work) return [];
    const { labels: reviewed, isKnown } = this._session.reviewing;
    const labels = /** @type {('draft' | 'final')[]} */ (['draft', 'final'])
      .filter((tag) => work.stored.has(tag) && !work.seen.has(labelKey(tag, work.stored.get(tag))))
      // It is opened where it is reviewed.
      .filter((tag) => tag === 'draft' || (isKnown && !reviewed.some((label) => label.tag === tag)))
      .map((tag) => ({
        name: tag, text: `${tag === 'draft' ? 'Draft' : 'Final label'} ${submitting.origin(work.stored.get(tag))}`, open: () => void this.openStored(tag),
      }));
    const known = [work.stored.get('final')?.SeriesInstanceUID, ...reviewed.map(({ series }) => series)];
    const others = work.segmentations.filter(({ series }) => !known.includes(series) && !work.seen.has(series)).slice(0, MOST_OTHERS);
    return [...labels, ...others.map((one) => ({
      name: 'segmentation', text: `In the PACS: ${one.segments.join(', ')} ${submitting.origin(submitting.infoOfSegmentation(one))}`, open: () => void this.openSegmentation(one),
    }))];
  }

  /** @param {string} name */
  setAuthor(name) {
    store.rememberAuthor(name.trim());
    this._session.change(() => (this.author = name.trim()));
  }

  /** @param {'draft' | 'final'} tag @param {Label} [corrected] the label that this one corrects */
  async submit(tag, corrected) {
    const [work, state, series, task] = [this._session.work, this._session.state, this._session.series, this._session.chosen];
    if (!work || !state || !series || !task || this.isSubmitting) return;
    if (this._session.answering.isAsking || (this._session.item && objects.needsAnswer(this._session.item) && objects.canBeAsked(this._session.item))) {
      return this._session.tell('warning', 'An answer is under way. Submit when it is there, or call it off with Esc.');
    }
    if (!this._session.hasMask) return this._session.tell('warning', 'There is no mask to store yet. Click on the structure first.');
    const before = work.stored.get(tag);
    const act = () => void this._store(tag, work, state, series, task, tag === 'final' && before ? labelKey(tag, before) : '', corrected);
    if (tag === 'draft') return act();
    const replaced = before && !corrected ? ` It replaces the final label ${submitting.origin(before)}.` : '';
    const shown = state.items.every(objects.isOwn) ? '' : ' The proposal that is shown is not part of it: accept it first (A) if it shall be.';
    const as = corrected ? `as a correction of the label ${submitting.origin({ author: corrected.author, ts: corrected.saved_at })}` : 'as final';
    const text = `Submit ${submitting.listOf(state, (item) => this._session.millilitres(item))} ${as}? ${submitting.learning(state, task, submitting.isUnchanged(state, work.proposal?.mask))}${replaced}${shown}`;
    return this._session.ask({ text, label: corrected ? 'Submit correction' : 'Submit final', act });
  }

  /**
   * @param {'draft' | 'final'} tag @param {Work} work @param {State} state @param {Series} series @param {Task} task
   * @param {string} replaced key of the label of somebody else that the user has agreed to replace
   * @param {Label} [corrected] the label that this one corrects
   * @returns {Promise<void>}
   */
  async _store(tag, work, state, series, task, replaced, corrected) {
    this._session.change(() => (this.isSubmitting = true));
    try {
      // Of another task as well: a series has one label of a kind.
      const there = await server.labelInfo(series.uid, tag);
      const key = there && labelKey(tag, there);
      if (key && !work.seen.has(key) && key !== replaced) {
        if (submitting.isOfTask(there, task)) work.stored.set(tag, there);
        const kept = there.SeriesInstanceUID ? ' The PACS keeps both.' : '';
        return this._session.ask({
          text: `The server has another ${tag === 'draft' ? 'draft' : 'final label'} of this series, ${submitting.origin(there)}. Replace it with yours?${kept}`,
          label: 'Replace it', act: () => void this._store(tag, work, state, series, task, key, corrected),
        });
      }
      // A draft of a correction is still one when it is opened again.
      const parent = corrected ? corrected.id : (tag === 'draft' && work.parent) || undefined;
      const info = { ...submitting.infoOf(state, task, this.author, colourOf), parent };
      const label = await files.writeNrrd(series.grid, submitting.partsOf(state));
      const warnings = await server.saveLabel(series.uid, tag, info, label);
      const saved = await server.labelInfo(series.uid, tag);
      work.saved = state;
      if (tag === 'final') [work.parent, work.opened] = ['', null];
      if (saved) {
        work.stored.set(tag, saved);
        work.seen.add(labelKey(tag, saved));
      }
      this.keep();
      const where = saved?.SeriesInstanceUID
        ? `in the PACS, as DICOM SEG${task.name && ` "${task.name}"`} (series ${saved.SeriesInstanceUID}), and on this server`
        : 'on this server';
      const list = submitting.listOf(state, (item) => this._session.millilitres(item));
      const fate = tag === 'draft' ? 'Nothing learns from a draft.' : submitting.learning(state, task, saved?.proposal?.outcome === 'taken');
      this._session.tell(warnings.length ? 'warning' : 'info', [`Stored as ${tag}: ${list}, ${where}. ${fate}`, ...warnings].join(' '));
    } catch (error) {
      this._session.fail(error, { label: 'Try again', act: () => void this.submit(tag, corrected) });
    } finally {
      this._session.change(() => (this.isSubmitting = false));
      void this.onStored?.();
      void this._session.reviewing.refresh();
    }
    return undefined;
  }

  /** @param {'draft' | 'final'} tag */
  async openStored(tag) {
    const info = this._session.work?.stored.get(tag);
    if (info) await this._open(info, labelKey(tag, info), tag === 'draft' ? 'draft' : 'final label', (series) => server.loadLabel(series, tag));
  }

  /** @param {any} one of the PACS */
  async openSegmentation(one) {
    await this._open(submitting.infoOfSegmentation(one), one.series, 'segmentation', (series) => server.loadSegmentation(series, one.series));
  }

  /**
   * Opens a label for a second reader.
   * @param {Label} label @param {any | null} info of it; null for one that the PACS alone has
   * @returns {Promise<boolean>} whether it is shown
   */
  async openLabel(label, info) {
    const kind = label.tag === 'final' ? 'final label' : `label "${label.tag}"`;
    if (info) return this._open(info, labelKey(label.tag, info), kind, (series) => server.loadLabel(series, label.tag), label.id);
    const series = this._session.series?.uid;
    const one = series && (await server.listSegmentations(series)).find((segmentation) => segmentation.series === label.series);
    if (!one) throw new server.ServerError('The file of this label is neither on the server nor in the PACS. Ask its author to submit it again.', 404);
    return this._open({ ...submitting.infoOfSegmentation(one), author: label.author }, one.series, kind, (image) => server.loadSegmentation(image, one.series), label.id);
  }

  /**
   * @param {any} info @param {string} key @param {string} kind @param {(series: string) => Promise<files.LabelMap>} load
   * @param {string} [label] id of a submitted label
   * @returns {Promise<boolean>} whether it is shown
   */
  async _open(info, key, kind, load, label = '') {
    const [work, series, task] = [this._session.work, this._session.series, this._session.chosen];
    if (!work || !series || !task) return false;
    try {
      const map = await load(series.uid);
      files.requireGrid(map, series.grid);
      const state = submitting.stateOf(files.masksOf(map), info, task);
      const was = work.history.present;
      work.history = histories.push(work.history, state);
      work.seen.add(key);
      work.saved = state;
      [work.parent, work.opened] = label ? [label, state] : [kind === 'draft' ? info.parent || '' : '', null];
      this.keep();
      this._session.refresh();
      const undo = objects.isEmpty(was) ? '' : ' Undo brings back what was here.';
      this._session.tell('info', `Opened the ${kind} ${submitting.origin(info)}. Click to go on with it.${undo}`);
      return true;
    } catch (error) {
      this._session.fail(error);
      return false;
    }
  }

  /** In this browser, until it is on the server. */
  keep() {
    const work = this._session.work;
    if (!work || !this._session.series) return;
    const kept = isUnsaved(work) ? store.keep(this._session.key, work.history.present, work.parent) : store.forget(this._session.key);
    kept.catch((error) => {
      console.warn('sam3d:', error);
      if (!this._isKept) return;
      this._isKept = false;
      this._session.tell('warning', 'This browser cannot keep what is not saved: it has no room, or is in a private window. Save drafts.');
    });
  }

  /** What this browser kept, and what the server has, of the work that was chosen. */
  async bringBack() {
    const [work, series, task] = [this._session.work, this._session.series, this._session.chosen];
    if (!work || !series || !task) return this._session.refresh();
    if (objects.isEmpty(work.history.present) && !work.history.past.length) {
      const found = await store.find(this._session.key).catch(() => undefined);
      if (work !== this._session.work) return undefined;
      if (found && objects.isEmpty(work.history.present) && !objects.isEmpty(found.state)) {
        work.history = histories.push(work.history, found.state);
        work.parent = found.parent || '';
        this._session.tell('info', `Your unsaved work of ${new Date(found.time).toLocaleString()} was brought back.`);
      }
    }
    this._session.refresh();
    void this._findSegmentations(work, series);
    return this._findStored(work, series, task);
  }

  /** @param {Work} work @param {Series} series @param {Task} task */
  async _findStored(work, series, task) {
    try {
      for (const tag of ['draft', 'final']) {
        const info = await server.labelInfo(series.uid, tag);
        if (info && submitting.isOfTask(info, task)) work.stored.set(tag, info);
      }
      await this._session.proposing.find(work, series, task);
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

  /** @param {Work} work @param {Series} series */
  async _findSegmentations(work, series) {
    try {
      work.segmentations = await server.listSegmentations(series.uid);
      this._session.change(() => {});
    } catch {
      // A PACS that is away is said where it matters.
    }
  }
}
