/** What the user is at: task, series, objects, what is asked of the server. Views show `state` and call the methods. */

import * as files from './files.mjs';
import { voxelVolume } from './geometry.mjs';
import * as histories from './history.mjs';
import * as masks from './masks.mjs';
import * as objects from './objects.mjs';
import * as server from './server.mjs';
import * as store from './store.mjs';
import * as submitting from './submitting.mjs';
import { colourOf } from './viewer.mjs';

/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {import('./objects.mjs').Item} Item */
/** @typedef {import('./objects.mjs').Prompt} Prompt */
/** @typedef {import('./objects.mjs').State} State */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./viewer.mjs').Series} Series */
/** @typedef {import('./viewer.mjs').Viewer} Viewer */
/** @typedef {'foreground' | 'background' | 'box' | 'brush' | 'eraser' | 'viewer'} Mode */
/** @typedef {{kind: 'info' | 'warning' | 'error', text: string, action?: {label: string, act: () => void}}} Notice */
/** @typedef {{text: string, label: string, act: () => void}} Question */
/**
 * @typedef {object} Work on one series with one task
 * @property {histories.History<State>} history
 * @property {State} saved the state that is stored on the server, or has nothing to lose
 * @property {Map<string, any>} stored by tag, what the server says of the labels that it has
 * @property {Set<string>} seen labels of the server that this work made, or goes on from
 */

const MOST_NOTICES = 4;

export class Session {
  /** @param {Viewer} viewer */
  constructor(viewer) {
    this._viewer = viewer;
    /** @type {Set<() => void>} */
    this._views = new Set();
    /** @type {Map<string, Work>} */
    this._works = new Map();
    /** @type {{id: number, key: string, control: AbortController} | null} */
    this._asked = null;
    /** @type {string | null} */
    this._failed = null;
    this._isDrawn = false;
    this._prepared = new Set();
    this._readsNoMask = new Set();
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
    /** @type {Mode} */
    this.mode = 'foreground';
    this.isAutomatic = true;
    this.mayOverwrite = false;
    this.brushMm = 10;
    /** @type {{text: string} | null} */
    this.busy = null;
    this.isSubmitting = false;
    /** @type {Notice[]} */
    this.notices = [];
    /** @type {Question | null} */
    this.question = null;
    /** @type {{id: number, n: number} | null} */
    this.selected = null;
    this.author = store.author();
    /** @type {(() => void) | null} told after a label was stored */
    this.onStored = null;
    this.mayLeave = false;
    this.isShown = false;
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

  get _key() {
    return `${this.series?.uid}|${this.task}`;
  }

  /** @returns {Work | undefined} */
  get work() {
    return this._works.get(this._key);
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
    return [...this._works.values()].some((work) => isUnsaved(work));
  }

  get isWorkUnsaved() {
    return Boolean(this.work && isUnsaved(this.work));
  }

  get hasMask() {
    return Boolean(this.state?.items.some((item) => item.mask.length));
  }

  /**
   * Labels on the server that are not what is at hand.
   * @returns {{tag: 'draft' | 'final', text: string}[]}
   */
  get stored() {
    const work = this.work;
    if (!work) return [];
    return /** @type {('draft' | 'final')[]} */ (['draft', 'final'])
      .filter((tag) => work.stored.has(tag) && !work.seen.has(keyOf(tag, work.stored.get(tag))))
      .map((tag) => ({ tag, text: `${tag === 'draft' ? 'Draft' : 'Final label'} ${submitting.origin(work.stored.get(tag))}` }));
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

  // --- beginning

  async start() {
    this._viewer.onChange(() => void this._follow());
    this._viewer.onDrawing((drawn) => this._drew(drawn));
    this._viewer.onTool(() => {
      if (this.mode !== 'viewer') this._set(() => (this.mode = 'viewer'));
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
      this.cancel();
      this._viewer.close();
    }
    this._set(() => {});
    void this._follow();
  }

  async connect() {
    try {
      const { tasks, info } = await server.listTasks();
      this._set(() => {
        [this.tasks, this.info] = [tasks, info];
        this.notices = [];
      });
      await this._follow();
    } catch (error) {
      this._fail(error, { label: 'Try again', act: () => void this.connect() });
    }
  }

  /** One after the other: a layout may change again while its series is opened. */
  _follow() {
    this._followed = this._followed.then(() => this._followNow()).catch((error) => this._fail(error));
    return this._followed;
  }

  async _followNow() {
    const series = this._viewer.series();
    if (!series || !this.tasks.length || !this.isShown) return;
    if (series.uid === this.series?.uid && !this._viewer.isOpen) await this._viewer.open(series);
    if (series.uid !== this.series?.uid) {
      const left = this.work && isUnsaved(this.work) ? this.series : null;
      this.cancel();
      await this._viewer.open(series);
      this._set(() => {
        this.series = series;
        this.selected = null;
        this._choose(store.lastTask(series.modality));
      });
      if (left) this.tell('info', `Your work on "${left.description || 'the other series'}" is kept; show that series again to go on with it.`);
      void this._prepare(series);
      await this._bringBack();
    }
    this._refresh();
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
    const present = objects.begin(this.chosen.label);
    this._works.set(this._key, { history: histories.open(present), saved: present, stored: new Map(), seen: new Set() });
  }

  /** @param {Series} series */
  async _prepare(series) {
    if (this._prepared.has(series.uid)) return;
    try {
      await server.prepare(series.uid);
      this._prepared.add(series.uid);
    } catch {
      // The first click says it in the server's words.
    }
  }

  /** @param {string} name */
  async chooseTask(name) {
    this.cancel();
    this._set(() => {
      this.task = name;
      this.selected = null;
      this._ensureWork();
    });
    const [task, misfit] = [this.chosen, this.chosen && this.misfit(this.chosen)];
    if (task && misfit) this.tell('warning', `Task "${task.name}" ${misfit}. Choose another task.`);
    else if (task && this.series) store.rememberTask(this.series.modality, task.name);
    await this._bringBack();
  }

  // --- prompts

  /** @param {Mode} mode */
  setMode(mode) {
    const tools = { brush: ['SphereBrush', 'CircularBrush'], eraser: ['SphereEraser', 'CircularEraser'] };
    if (mode === 'brush' || mode === 'eraser') {
      if (!this._viewer.useTool(...tools[mode])) {
        return this.tell('warning', `This mode of the viewer has no ${mode}. Open the study in its mode for segmentation to draw by hand.`);
      }
      this._viewer.setBrushSize(this.brushMm);
    } else if (this.mode === 'brush' || this.mode === 'eraser') {
      this._viewer.useTool('WindowLevel');
    }
    return this._set(() => (this.mode = mode));
  }

  /** @param {number} mm */
  setBrush(mm) {
    this._viewer.setBrushSize(mm);
    this._set(() => (this.brushMm = mm));
  }

  /** @param {Prompt} prompt */
  addPrompt(prompt) {
    const [state, item, task] = [this.state, this.item, this.chosen];
    if (!state || !item || !task) return;
    const misfit = this.misfit(task);
    if (task.problem) return this.tell('error', `Task "${task.name}" ${misfit}. Choose another task.`);
    if (item.locked) return this.tell('warning', `"${item.name}" is locked. Unlock it to change it, or add a new object.`);
    const index = this.series ? masks.indexOf(this.series.grid, prompt.ijk) : -1;
    const owner = state.items.find((one) => one.id !== item.id && masks.has(one.mask, index));
    if (prompt.sign === '+' && owner && (owner.locked || !this.mayOverwrite)) {
      return this.tell('warning', `This place belongs to "${owner.name}". Choose that object to correct it, or allow overwriting.`, {
        label: `Choose ${owner.name}`, act: () => this.chooseItem(owner.id),
      });
    }
    this._step(objects.addPrompt(state, prompt));
    const changed = this.item;
    if (changed && prompt.sign === '-' && !objects.canBeAsked(changed)) {
      this.tell('info', 'A background click needs a foreground click as well: click on the structure.');
    }
    return undefined;
  }

  /**
   * A rectangle that was drawn: a box of its own, or one more slice of the object's box.
   * @param {[Triple, Triple]} corners
   */
  addRectangle(corners) {
    if (!this.item || !this.series) return;
    const before = this.item.prompts.find((prompt) => prompt.sign === 'box');
    this.addPrompt(objects.boxOf([...(before?.drawn || []), corners], this.series.grid));
  }

  /** @param {number} id @param {number} n */
  removePrompt(id, n) {
    if (!this.state) return;
    this.selected = null;
    this._step(objects.removePrompt(this.state, id, n));
  }

  removeSelected() {
    const item = this.item;
    const [id, n] = this.selected ? [this.selected.id, this.selected.n] : [item?.id, (item?.prompts.length || 0) - 1];
    if (id !== undefined && n >= 0) this.removePrompt(id, n);
  }

  /** @param {number} id @param {number} n */
  select(id, n) {
    const prompt = this.state?.items.find((item) => item.id === id)?.prompts[n];
    if (!prompt) return;
    this._set(() => (this.selected = { id, n }));
    this._viewer.jump(prompt.ijk);
  }

  undo() {
    this._travel(histories.undo);
  }

  redo() {
    this._travel(histories.redo);
  }

  reset() {
    if (this.state) this._step(objects.resetItem(this.state));
  }

  /** Esc: what is under way is called off, and its prompts with it. */
  cancel() {
    const asked = this._asked;
    this._asked = null;
    asked?.control.abort();
    if (this.busy) this._set(() => (this.busy = null));
    const work = this.work;
    if (!asked || !work) return;
    let { history } = work;
    while (history.past.length && objects.needsAnswer(objects.current(history.present))) history = histories.undo(history);
    work.history = history;
    this._refresh();
  }

  escape() {
    if (this.question) return this.answer(false);
    if (this._asked) {
      this.cancel();
      return this.tell('info', 'Called off; the clicks that had no answer yet are taken back (redo brings them again).');
    }
    this.selected = null;
    return this.setMode('viewer');
  }

  /** @param {boolean} isOn */
  setAutomatic(isOn) {
    this._set(() => (this.isAutomatic = isOn));
    this._pump();
  }

  /** @param {boolean} isOn */
  setOverwrite(isOn) {
    this._set(() => (this.mayOverwrite = isOn));
  }

  run() {
    this._failed = null;
    this._pump(true);
  }

  // --- objects

  addItem() {
    if (this.state && this.chosen) this._step(objects.addItem(this.state, this.chosen.label));
  }

  /** @param {number} id */
  chooseItem(id) {
    if (!this.state || this.state.current === id) return;
    this.cancel();
    this._amend((state) => (state.items.some((item) => item.id === id) ? objects.choose(state, id) : state), true);
  }

  /** @param {number} id @param {Partial<Pick<Item, 'name' | 'visible' | 'locked'>>} facts */
  describeItem(id, facts) {
    if (facts.name !== undefined && !facts.name.trim()) return;
    this._amend((state) => objects.describe(state, id, facts), false);
  }

  /** @param {number} id */
  removeItem(id) {
    if (this.state && this.chosen) this._step(objects.removeItem(this.state, id, this.chosen.label));
  }

  /** @param {number} id */
  jumpTo(id) {
    const item = this.state?.items.find((one) => one.id === id);
    const voxel = item && this.series && masks.middleOf(item.mask, this.series.grid);
    if (voxel) this._viewer.jump(voxel);
  }

  // --- labels on the server

  /** @param {string} name */
  setAuthor(name) {
    store.rememberAuthor(name.trim());
    this._set(() => (this.author = name.trim()));
  }

  /** @param {'draft' | 'final'} tag */
  async submit(tag) {
    const [work, state, series, task] = [this.work, this.state, this.series, this.chosen];
    if (!work || !state || !series || !task || this.isSubmitting) return;
    if (this._asked || (this.item && objects.needsAnswer(this.item) && objects.canBeAsked(this.item))) {
      return this.tell('warning', 'An answer is under way. Submit when it is there, or call it off with Esc.');
    }
    if (!this.hasMask) return this.tell('warning', 'There is no mask to store yet. Click on the structure first.');
    const act = () => void this._store(tag, work, state, series, task);
    if (tag === 'draft') return act();
    const before = work.stored.get('final');
    const replaced = before ? ` It replaces the final label ${submitting.origin(before)}.` : '';
    const text = `Submit ${submitting.listOf(state, (item) => this.millilitres(item))} as final? ${submitting.learning(state, task)}${replaced}`;
    return this.ask({ text, label: 'Submit final', act });
  }

  /**
   * @param {'draft' | 'final'} tag @param {Work} work @param {State} state @param {Series} series @param {Task} task
   * @param {boolean} [mayReplace] whether a draft of somebody else may be lost
   * @returns {Promise<void>}
   */
  async _store(tag, work, state, series, task, mayReplace = false) {
    this._set(() => (this.isSubmitting = true));
    try {
      const there = tag === 'draft' ? await server.labelInfo(series.uid, tag) : null;
      if (there && !work.seen.has(keyOf(tag, there)) && !mayReplace) {
        work.stored.set(tag, there);
        return this.ask({
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
        work.seen.add(keyOf(tag, saved));
      }
      this._keep();
      const where = saved?.SeriesInstanceUID
        ? `in the PACS, as DICOM SEG "${task.name}" (series ${saved.SeriesInstanceUID}), and on this server`
        : 'on this server';
      const list = submitting.listOf(state, (item) => this.millilitres(item));
      const fate = tag === 'draft' ? 'Nothing learns from a draft.' : submitting.learning(state, task);
      this.tell(warnings.length ? 'warning' : 'info', [`Stored as ${tag}: ${list}, ${where}. ${fate}`, ...warnings].join(' '));
    } catch (error) {
      this._fail(error, { label: 'Try again', act: () => void this.submit(tag) });
    } finally {
      this._set(() => (this.isSubmitting = false));
      void this.onStored?.();
    }
    return undefined;
  }

  /** @param {'draft' | 'final'} tag */
  async openStored(tag) {
    const [work, series, task] = [this.work, this.series, this.chosen];
    const info = work?.stored.get(tag);
    if (!work || !series || !task || !info) return;
    try {
      const map = await server.loadLabel(series.uid, tag);
      files.requireGrid(map, series.grid);
      const state = submitting.stateOf(files.masksOf(map), info, task);
      const was = work.history.present;
      work.history = histories.push(work.history, state);
      work.seen.add(keyOf(tag, info));
      work.saved = state;
      this._keep();
      this._refresh();
      const undo = objects.isEmpty(was) ? '' : ' Undo brings back what was here.';
      this.tell('info', `Opened the ${tag === 'draft' ? 'draft' : 'final label'} ${submitting.origin(info)}. Click to go on with it.${undo}`);
    } catch (error) {
      this._fail(error);
    }
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
    this._set(() => (this.question = question));
  }

  /** @param {boolean} isYes */
  answer(isYes) {
    const question = this.question;
    this._set(() => (this.question = null));
    if (isYes) question?.act();
  }

  /** @param {Notice['kind']} kind @param {string} text @param {Notice['action']} [action] */
  tell(kind, text, action) {
    this._set(() => {
      this.notices = [{ kind, text, action }, ...this.notices].slice(0, MOST_NOTICES);
    });
  }

  /** @param {unknown} error @param {Notice['action']} [action] */
  _fail(error, action) {
    const isSaid = error instanceof server.ServerError || error instanceof files.FileError;
    if (!isSaid) console.error('sam3d', error);
    const reason = error instanceof Error ? error.message : String(error);
    this.tell('error', isSaid ? reason : `The panel ran into a problem. Your work is kept; reload the page. (${reason})`, action);
  }

  // --- steps

  /** @param {() => void} change */
  _set(change) {
    change();
    for (const view of this._views) view();
  }

  _refresh() {
    const state = this.state;
    if (state) {
      this._viewer.describe(state.items, state.current);
      this._viewer.paint(state.items);
    } else {
      this._viewer.paint([]);
    }
    this._set(() => {});
    this._pump();
  }

  /** @param {State} next */
  _step(next) {
    const work = this.work;
    if (!work || !this.state) return;
    this._failed = null;
    const before = this.state;
    // Which object is at hand is no step of its own: one that was chosen meanwhile stays chosen in what undo brings.
    work.history = histories.push(work.history, next);
    if (before.current !== next.current) this.selected = null;
    this._keep();
    this._refresh();
  }

  /** @param {(history: histories.History<State>) => histories.History<State>} move */
  _travel(move) {
    const work = this.work;
    if (!work) return;
    this._failed = null;
    work.history = move(work.history);
    this.selected = null;
    const item = this.item;
    if (this._asked && item && !objects.needsAnswer(item)) {
      this._asked.control.abort();
      this._asked = null;
      this.busy = null;
    }
    this._keep();
    this._refresh();
  }

  /** @param {(state: State) => State} change @param {boolean} isPresentOnly */
  _amend(change, isPresentOnly) {
    const work = this.work;
    if (!work) return;
    work.history = isPresentOnly ? { ...work.history, present: change(work.history.present) } : histories.amend(work.history, change);
    this._keep();
    this._refresh();
  }

  /** @param {Map<number, Mask>} drawn */
  _drew(drawn) {
    if (this.state) this._step(objects.withDrawing(this.state, drawn));
  }

  // --- asking the server

  /** @param {boolean} [isAskedFor] also where answers are not asked for by themselves */
  _pump(isAskedFor = false) {
    const [item, series, task] = [this.item, this.series, this.chosen];
    if (!item || !series || !task || this._asked) return;
    const key = objects.keyOf(item.prompts, item.start);
    if (!objects.needsAnswer(item) || !objects.canBeAsked(item) || this._failed === key) return;
    if (this.isAutomatic || isAskedFor) void this._ask(item, key, series, task, this._key);
  }

  /** @param {Item} item @param {string} key @param {Series} series @param {Task} task @param {string} workKey */
  async _ask(item, key, series, task, workKey) {
    const asked = { id: item.id, key, control: new AbortController() };
    this._asked = asked;
    const isFirst = !this._prepared.has(`${series.uid}|${task.name}`);
    this._set(() => (this.busy = { text: isFirst ? 'Preparing the series: the first answer takes longer.' : 'Segmenting...' }));
    try {
      const { params, label } = await this._request(item, series, task);
      const answer = await server.infer(task.name, series.uid, params, label, asked.control.signal);
      if (this._asked !== asked) return;
      this._prepared.add(`${series.uid}|${task.name}`).add(series.uid);
      if (params.start_from && answer.codes.includes('mask-not-read')) {
        this._readsNoMask.add(task.name);
      }
      files.requireGrid(answer.map, series.grid);
      this._take(answer, item, key, workKey);
    } catch (error) {
      if (this._asked !== asked) return;
      this._failed = key;
      this._fail(error, { label: 'Try again', act: () => this.run() });
    } finally {
      if (this._asked === asked) {
        this._asked = null;
        this._set(() => (this.busy = null));
        this._keep();
        this._refresh();
      }
    }
  }

  /** @param {Item} item @param {Series} series @param {Task} task */
  async _request(item, series, task) {
    const state = /** @type {State} */ (this.state);
    const readsMask = item.start && !this._readsNoMask.has(task.name);
    const prompts = readsMask && item.start ? item.prompts.slice(item.start.after) : item.prompts;
    const of = (/** @type {string} */ sign) => prompts.filter((prompt) => prompt.sign === sign).map((prompt) => prompt.ijk);
    const box = prompts.find((prompt) => prompt.sign === 'box');
    /** @type {Record<string, unknown>} */
    const params = { foreground: of('+'), background: of('-') };
    if (box) params.box = [box.ijk, box.to];
    const kept = objects.keptFrom(state, item.id, this.mayOverwrite);
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

  /** @param {server.Answer} answer @param {Item} item @param {string} key @param {string} workKey */
  _take(answer, item, key, workKey) {
    const work = this._works.get(workKey);
    if (!work) return;
    let mask = masks.fromBytes(answer.map.values);
    // What was drawn by hand stays as it was drawn, where the weights do not read it.
    if (item.start && answer.codes.includes('mask-not-read')) mask = masks.union(mask, item.start.mask);
    const take = (/** @type {State} */ state) => objects.withAnswer(state, item.id, key, mask, this.mayOverwrite);
    work.history = histories.amend(work.history, take);
    const seconds = ((answer.said.latency_ms?.total || 0) / 1000).toFixed(2);
    if (answer.warnings.length) this.tell('warning', answer.warnings.join(' '));
    else this.tell('info', `${item.name}: answered in ${seconds} s on the server.`);
  }

  // --- keeping and bringing back

  _keep() {
    const work = this.work;
    if (!work || !this.series) return;
    if (isUnsaved(work)) store.keep(this._key, work.history.present);
    else store.forget(this._key);
  }

  async _bringBack() {
    const [work, series, task] = [this.work, this.series, this.chosen];
    if (!work || !series || !task) return this._refresh();
    if (objects.isEmpty(work.history.present) && !work.history.past.length) {
      const found = store.find(this._key);
      if (found && !objects.isEmpty(found.state)) {
        work.history = histories.push(work.history, found.state);
        this.tell('info', `Your unsaved work of ${new Date(found.time).toLocaleString()} was brought back.`);
      }
    }
    this._refresh();
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
      return this._fail(error);
    }
    this._set(() => {});
    if (!this.notices.length) this.tell('info', `Click on the ${task.label} in any of the views.`);
    const [draft, final] = [work.stored.get('draft'), work.stored.get('final')];
    const isOwn = draft && (!draft.author || draft.author === this.author);
    // A draft is there to be gone on with; a final label waits until it is asked for.
    if (work !== this.work || !isOwn || (final && final.ts >= draft.ts)) return undefined;
    return objects.isEmpty(work.history.present) ? this.openStored('draft') : undefined;
  }
}

/**
 * @param {string} tag @param {any} info of a label
 */
const keyOf = (tag, info) => `${tag} ${info.ts} ${info.author || ''}`;

/** @param {Work} work */
const isUnsaved = ({ history: { present }, saved }) =>
  !objects.isSameWork(present, saved) && !(objects.isEmpty(present) && objects.isEmpty(saved));
