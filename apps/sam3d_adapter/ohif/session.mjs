/**
 * What the user is at: task, series, and the history of the work on it. Views show `state`. What is done to it lies in
 * `editing`, the requests for answers in `answering`, labels on the server and in the browser in `saving`, what a second
 * reader says of them in `reviewing`, what the server proposes in `proposing`.
 */

import { Answering } from './answering.mjs';
import { Editing } from './editing.mjs';
import * as files from './files.mjs';
import { voxelVolume } from './geometry.mjs';
import * as histories from './history.mjs';
import * as masks from './masks.mjs';
import * as objects from './objects.mjs';
import { Proposing } from './proposing.mjs';
import { Reviewing } from './reviewing.mjs';
import { Saving } from './saving.mjs';
import * as server from './server.mjs';
import * as store from './store.mjs';
import * as works from './work.mjs';

/** @typedef {import('./objects.mjs').Item} Item */
/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./viewer.mjs').Series} Series */
/** @typedef {import('./viewer.mjs').Viewer} Viewer */
/** @typedef {import('./work.mjs').Work} Work */
/** @typedef {{kind: 'info' | 'warning' | 'error', text: string, action?: {label: string, act: () => void}}} Notice */
/** @typedef {{text: string, label: string, act: () => void}} Question */

const MOST_NOTICES = 4;

export class Session {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    /** @type {Set<() => void>} */
    this._views = new Set();
    /** @type {Map<string, Work>} */
    this.works = new Map();
    /** @type {Promise<void>} */
    this._followed = Promise.resolve();

    /** @type {Task[]} */
    this.tasks = [];
    /** @type {string} */
    this.task = '';
    /** @type {any} */
    this.info = {};
    /** @type {Series | null} */
    this.series = null;
    /** @type {Notice[]} */
    this.notices = [];
    /** @type {Question | null} */
    this.question = null;
    this.mayLeave = false;
    this.isShown = false;

    this.editing = new Editing(this);
    this.answering = new Answering(this);
    this.saving = new Saving(this);
    this.reviewing = new Reviewing(this);
    this.proposing = new Proposing(this);
  }

  // --- what views ask

  /** @param {() => void} view called after each change */
  subscribe(view) {
    this._views.add(view);
  }

  /** @returns {Task | undefined} */
  get chosen() {
    return this.tasks.find((task) => task.name === this.task);
  }

  get key() {
    return `${this.series?.uid}|${this.task}`;
  }

  /** @returns {Work | undefined} */
  get work() {
    return this.works.get(this.key);
  }

  /** @returns {State | null} */
  get state() {
    return this.work ? this.work.history.present : null;
  }

  /** @returns {Item | null} */
  get item() {
    return this.state && objects.current(this.state);
  }

  get canUndo() {
    return Boolean(this.work?.history.past.length);
  }

  get canRedo() {
    return Boolean(this.work?.history.future.length);
  }

  /** Whether something would be lost. */
  get isUnsaved() {
    return [...this.works.values()].some((work) => works.isUnsaved(work));
  }

  get isWorkUnsaved() {
    return Boolean(this.work && works.isUnsaved(this.work));
  }

  get hasMask() {
    return Boolean(this.state?.items.some((item) => item.mask.length && objects.isOwn(item)));
  }

  /** @param {Task} task @returns {string | null} why it does not suit the series */
  misfit(task) {
    if (task.problem) return `cannot answer, ${task.problem}`;
    const modality = this.series?.modality;
    if (!modality || !task.modality || task.modality === modality) return null;
    return `is for ${task.modality}, the series is ${modality}`;
  }

  /**
   * Tasks that can answer and suit the series first.
   * @returns {Task[]}
   */
  get offered() {
    const rank = (/** @type {Task} */ task) => (task.problem ? 2 : this.misfit(task) ? 1 : 0);
    return [...this.tasks].sort((a, b) => rank(a) - rank(b));
  }

  /** @param {Item} item @returns {number} */
  millilitres(item) {
    return this.series ? (masks.count(item.mask) * voxelVolume(this.series.grid)) / 1000 : 0;
  }

  // --- tasks and series

  async start() {
    this.viewer.onChange(() => void this._follow());
    this.viewer.onDrawing((drawn) => {
      if (this.state) this.step(objects.withDrawing(this.state, drawn));
    });
    this.viewer.onTool(() => {
      if (this.editing.mode !== 'viewer') this.change(() => (this.editing.mode = 'viewer'));
    });
    await this.connect();
  }

  /**
   * Whether the panel is on the page; the viewer is left alone while it is not.
   * @param {boolean} isShown
   */
  show(isShown) {
    if (this.isShown === isShown) return;
    this.isShown = isShown;
    if (!isShown) {
      this.answering.cancel();
      this.viewer.close();
    }
    this.change(() => {});
    void this._follow();
  }

  async connect() {
    try {
      const { tasks, info } = await server.listTasks();
      this.change(() => {
        [this.tasks, this.info] = [tasks, info];
        this.notices = [];
      });
      await this._follow();
    } catch (error) {
      this.fail(error, { label: 'Try again', act: () => void this.connect() });
    }
  }

  /** One after the other: a layout may change again while its series is opened. */
  _follow() {
    this._followed = this._followed.then(() => this._followNow()).catch((error) => this.fail(error));
    return this._followed;
  }

  async _followNow() {
    const series = this.viewer.series();
    if (!series || !this.tasks.length || !this.isShown) return;
    if (series.uid === this.series?.uid && !this.viewer.isOpen) await this.viewer.open(series);
    if (series.uid !== this.series?.uid) {
      const left = this.work && works.isUnsaved(this.work) ? this.series : null;
      this.answering.cancel();
      await this.viewer.open(series);
      this.change(() => {
        this.series = series;
        this.editing.selected = null;
        this._choose(store.lastTask(series.modality));
      });
      if (left) this.tell('info', `Your work on "${left.description || 'the other series'}" is kept; show that series again to go on with it.`);
      void this.answering.prepare(series);
      this.reviewing.reset();
      await this.saving.bringBack();
    }
    this.refresh();
  }

  /** @param {string | null} wanted */
  _choose(wanted) {
    const able = this.offered.filter((task) => !this.misfit(task));
    const task = able.find(({ name }) => name === wanted) || able[0] || this.offered[0];
    this.task = task ? task.name : '';
    this._ensureWork();
  }

  _ensureWork() {
    if (!this.series || !this.chosen || this.work) return;
    this.works.set(this.key, works.begin(this.chosen.label));
  }

  /** @param {string} name */
  async chooseTask(name) {
    this.answering.cancel();
    this.change(() => {
      this.task = name;
      this.editing.selected = null;
      this._ensureWork();
    });
    const [task, misfit] = [this.chosen, this.chosen && this.misfit(this.chosen)];
    if (task && misfit) this.tell('warning', `Task "${task.name}" ${misfit}. Choose another task.`);
    else if (task && this.series) store.rememberTask(this.series.modality, task.name);
    await this.saving.bringBack();
  }

  /** Esc: what is asked, what is under way, or the mode is left, in this order. */
  escape() {
    if (this.question) return this.answer(false);
    if (this.answering.isAsking) {
      this.answering.cancel();
      return this.tell('info', 'Called off; the clicks that had no answer yet are taken back (redo brings them again).');
    }
    this.editing.selected = null;
    return this.editing.setMode('viewer');
  }

  undo() {
    this._travel(histories.undo);
  }

  redo() {
    this._travel(histories.redo);
  }

  /**
   * Go away, after a question if something would have to be brought back.
   * @param {() => void} go
   */
  leave(go) {
    const act = () => {
      this.mayLeave = true;
      go();
    };
    if (!this.isUnsaved) return act();
    return this.ask({
      text: 'Some of your work is not on the server. This browser keeps it and brings it back here; nobody else sees it. Leave?',
      label: 'Leave', act,
    });
  }

  // --- questions and words

  /** @param {Question} question */
  ask(question) {
    this.change(() => (this.question = question));
  }

  /** @param {boolean} isYes */
  answer(isYes) {
    const question = this.question;
    this.change(() => (this.question = null));
    if (isYes) question?.act();
  }

  /** @param {Notice['kind']} kind @param {string} text @param {Notice['action']} [action] */
  tell(kind, text, action) {
    this.change(() => {
      this.notices = [{ kind, text, action }, ...this.notices].slice(0, MOST_NOTICES);
    });
  }

  /** @param {unknown} error @param {Notice['action']} [action] */
  fail(error, action) {
    const isSaid = error instanceof server.ServerError || error instanceof files.FileError;
    if (!isSaid) console.error('sam3d', error);
    const reason = error instanceof Error ? error.message : String(error);
    this.tell('error', isSaid ? reason : `The panel ran into a problem. Your work is kept; reload the page. (${reason})`, action);
  }

  // --- steps

  /** @param {() => void} change that views are told of */
  change(change) {
    change();
    for (const view of this._views) view();
  }

  /** Shows the present state, and asks for the answer that it lacks. */
  refresh() {
    const state = this.state;
    if (state) {
      this.viewer.describe(state.items, state.current);
      this.viewer.paint(state.items);
    } else {
      this.viewer.paint([]);
    }
    this.change(() => {});
    this.answering.pump();
  }

  /** @param {State} next what undo takes back */
  step(next) {
    const work = this.work;
    if (!work || !this.state) return;
    this.answering.retry();
    const before = this.state;
    // Which object is at hand is no step of its own: one that was chosen meanwhile stays chosen in what undo brings.
    work.history = histories.push(work.history, next);
    if (before.current !== next.current) this.editing.selected = null;
    this.saving.keep();
    this.refresh();
  }

  /** @param {(history: histories.History<State>) => histories.History<State>} move */
  _travel(move) {
    const work = this.work;
    if (!work) return;
    this.answering.retry();
    work.history = move(work.history);
    this.editing.selected = null;
    if (this.item && !objects.needsAnswer(this.item)) this.answering.drop();
    this.saving.keep();
    this.refresh();
  }

  /** @param {(state: State) => State} change @param {boolean} isPresentOnly */
  amend(change, isPresentOnly) {
    const work = this.work;
    if (!work) return;
    work.history = isPresentOnly ? { ...work.history, present: change(work.history.present) } : histories.amend(work.history, change);
    this.saving.keep();
    this.refresh();
  }
}
