/** Asking the server: one answer at a time, and the newest prompts win. */

import * as files from './files.mjs';
import * as histories from './history.mjs';
import * as masks from './masks.mjs';
import * as objects from './objects.mjs';
import * as server from './server.mjs';

/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {import('./objects.mjs').Item} Item */
/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./viewer.mjs').Series} Series */

/**
 * What the server predicts of an answer or a proposal; empty where it predicts nothing.
 * @param {Record<string, any>} said
 */
export function predictionOf(said) {
  const predicted = said.predicted_dice;
  if (!predicted) return '';
  const [dice, least] = [predicted.dice, predicted.at_least].map((value) => value.toFixed(2));
  return `Dice is predicted ${dice}: at least ${least} in ${Math.round(10 * predicted.share)} of 10 cases like the ${predicted.patients} labelled here.`;
}

/**
 * The same in few words.
 * @param {Record<string, any>} said
 */
export const shortPredictionOf = ({ predicted_dice: predicted }) =>
  (predicted ? `predicted Dice ${predicted.dice.toFixed(2)}, at least ${predicted.at_least.toFixed(2)}` : '');

export class Answering {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    /** @type {{id: number, key: string, control: AbortController} | null} */
    this._asked = null;
    /** @type {string | null} */
    this._failed = null;
    this._prepared = new Set();
    this._readsNoMask = new Set();
    this.isAutomatic = true;
    /** @type {{text: string} | null} */
    this.busy = null;
  }

  /** @param {Series} series that the server shall fetch before the first click */
  async prepare(series) {
    if (this._prepared.has(series.uid)) return;
    try {
      await server.prepare(series.uid);
      this._prepared.add(series.uid);
    } catch {
      // The first click says it in the server's words.
    }
  }

  get isAsking() {
    return this._asked !== null;
  }

  /** @param {boolean} isOn */
  setAutomatic(isOn) {
    this._session.change(() => (this.isAutomatic = isOn));
    this.pump();
  }

  run() {
    this.retry();
    this.pump(true);
  }

  /** What failed may be asked again. */
  retry() {
    this._failed = null;
  }

  /** Calls off the question that is under way. */
  drop() {
    this._asked?.control.abort();
    this._asked = null;
    if (this.busy) this._session.change(() => (this.busy = null));
  }

  /** Calls off what is under way, and takes back its prompts. */
  cancel() {
    const asked = this._asked;
    this.drop();
    const work = this._session.work;
    if (!asked || !work) return;
    let { history } = work;
    while (history.past.length && objects.needsAnswer(objects.current(history.present))) history = histories.undo(history);
    work.history = history;
    this._session.refresh();
  }

  /** @param {boolean} [isAskedFor] also where answers are not asked for by themselves */
  pump(isAskedFor = false) {
    const [item, series, task] = [this._session.item, this._session.series, this._session.chosen];
    if (!item || !series || !task || this._asked) return;
    const key = objects.keyOf(item.prompts, item.start);
    if (!objects.needsAnswer(item) || !objects.canBeAsked(item) || this._failed === key) return;
    if (this.isAutomatic || isAskedFor) void this._ask(item, key, series, task, this._session.key);
  }

  /** @param {Item} item @param {string} key @param {Series} series @param {Task} task @param {string} workKey */
  async _ask(item, key, series, task, workKey) {
    const asked = { id: item.id, key, control: new AbortController() };
    this._asked = asked;
    const isFirst = !this._prepared.has(`${series.uid}|${task.name}`);
    this._session.change(() => (this.busy = { text: isFirst ? 'Preparing the series: the first answer takes longer.' : 'Segmenting...' }));
    try {
      const { params, label } = await this._request(item, series, task);
      const answer = await server.infer(task.name, series.uid, params, label, asked.control.signal);
      if (this._asked !== asked) return;
      this._prepared.add(`${series.uid}|${task.name}`).add(series.uid);
      if (params.start_from && answer.codes.includes('mask-not-read')) {
        this._readsNoMask.add(task.name);
      }
      this._take(answer, files.maskOfPart(answer.map, series.grid), item, key, workKey);
    } catch (error) {
      if (this._asked !== asked) return;
      this._failed = key;
      this._session.fail(error, { label: 'Try again', act: () => this.run() });
    } finally {
      if (this._asked === asked) {
        this._asked = null;
        this._session.change(() => (this.busy = null));
        this._session.saving.keep();
        this._session.refresh();
      }
    }
  }

  /** @param {Item} item @param {Series} series @param {Task} task */
  async _request(item, series, task) {
    const state = /** @type {State} */ (this._session.state);
    const readsMask = item.start && !this._readsNoMask.has(task.name);
    const prompts = readsMask && item.start ? item.prompts.slice(item.start.after) : item.prompts;
    const of = (/** @type {string} */ sign) => prompts.filter((prompt) => prompt.sign === sign).map((prompt) => prompt.ijk);
    const box = prompts.find((prompt) => prompt.sign === 'box');
    /** @type {Record<string, unknown>} */
    const params = { foreground: of('+'), background: of('-') };
    if (box) params.box = [box.ijk, box.to];
    const kept = objects.keptFrom(state, item.id, this._session.editing.mayOverwrite);
    const parts = [];
    if (kept.length) {
      Object.assign(params, { protected: 'upload', protected_except: 1 });
      parts.push({ mask: kept, value: 2 });
    }
    if (readsMask && item.start?.mask.length) {
      Object.assign(params, { start_from: 'upload', start_value: 1 });
      parts.push({ mask: item.start.mask, value: 1 });
    }
    const label = parts.length ? await files.writeNrrd(series.grid, parts, true) : undefined;
    return { params, label };
  }

  /** @param {server.Answer} answer @param {Mask} found @param {Item} item @param {string} key @param {string} workKey */
  _take(answer, found, item, key, workKey) {
    const work = this._session.works.get(workKey);
    if (!work) return;
    // What was drawn by hand stays as it was drawn, where the weights do not read it.
    const mask = item.start && answer.codes.includes('mask-not-read') ? masks.union(found, item.start.mask) : found;
    const take = (/** @type {State} */ state) => objects.withAnswer(state, item.id, key, mask, this._session.editing.mayOverwrite);
    work.history = histories.amend(work.history, take);
    const seconds = ((answer.said.latency_ms?.total || 0) / 1000).toFixed(2);
    const prediction = predictionOf(answer.said);
    if (answer.warnings.length) this._session.tell('warning', [...answer.warnings, prediction].join(' ').trim());
    else this._session.tell('info', `${item.name}: answered in ${seconds} s on the server. ${prediction}`.trim());
  }
}
