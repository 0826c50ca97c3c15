/** The training of the chosen task: its progress, its outcome, the versions, and going back to an earlier one. */

import * as server from './server.mjs';
import * as store from './store.mjs';

/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {{id: string, state: string, created: string, by: string, dice: number | null, before: number | null, reasons: string[], cases: number | null}} Version */

const [POLL_MS, IDLE_MS] = [2000, 15_000];
const RUNNING = new Set(['SUBMITTED', 'RUNNING']);

export class Training {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    /** @type {Set<() => void>} */
    this._views = new Set();
    this.isOpen = false;
    this.isRunning = false;
    /** @type {any} */
    this.stats = {};
    /** @type {{served: string, previous: string[], list: Version[]} | null} */
    this.versions = null;
    this.task = '';
    this._timer = 0;
    session.subscribe(() => {
      if (session.task === this.task) return;
      this.task = session.task;
      this._set(() => {
        this.stats = {};
        this.versions = null;
      });
      if (this.isOpen) void this.refresh();
    });
  }

  end() {
    clearTimeout(this._timer);
    this.isOpen = false;
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

  /** @param {boolean} isOpen */
  show(isOpen) {
    store.rememberOpen('training', isOpen);
    this._set(() => (this.isOpen = isOpen));
    if (isOpen) void this.refresh();
    else clearTimeout(this._timer);
  }

  async refresh() {
    clearTimeout(this._timer);
    if (!this.isOpen || !this.task) return;
    const task = this.task;
    try {
      const [info, status] = [await server.info(), await server.trainingStatus()];
      const wasRunning = this.isRunning;
      const stats = info.train_stats?.[task] || {};
      // A training of all tasks, which names none, is at this one if its stage says so.
      const named = status?.request?.model;
      const isOfTask = named === undefined ? !isOver(stats) : named === task;
      const isRunning = Boolean(status && isOfTask && RUNNING.has(status.status));
      if (task !== this.task) return;
      this._set(() => {
        [this.stats, this.isRunning] = [stats, isRunning];
      });
      if (!this.versions || (wasRunning && !isRunning)) await this._list(task);
      // Others may start one too.
      if (this.isOpen) this._timer = window.setTimeout(() => void this.refresh(), isRunning ? POLL_MS : IDLE_MS);
    } catch (error) {
      this._session.fail(error);
    }
  }

  /** @param {string} task */
  async _list(task) {
    const found = await server.listVersions(task);
    const list = found.versions.map((/** @type {any} */ one) => ({
      id: one.id, state: one.state, created: one.created, by: one.started_by,
      dice: diceOf(one.metrics?.validation?.candidate), before: diceOf(one.metrics?.validation?.served),
      reasons: one.metrics?.reasons || [], cases: one.metrics?.cases?.train ?? null,
    }));
    if (task === this.task) this._set(() => (this.versions = { served: found.served, previous: found.previous, list }));
  }

  async start() {
    try {
      await server.startTraining(this.task, { started_by: this._session.saving.author || 'OHIF' });
      this._session.tell('info', `Training of task "${this.task}" has begun. Clicks are answered meanwhile.`);
      this._set(() => (this.isRunning = true));
      this._timer = window.setTimeout(() => void this.refresh(), 500);
    } catch (error) {
      this._session.fail(error);
    }
  }

  async stop() {
    try {
      await server.stopTraining();
      this._session.tell('info', 'The training was stopped. The next one goes on from there.');
    } catch (error) {
      this._session.fail(error);
    }
    await this.refresh();
  }

  rollBack() {
    const by = this._session.saving.author;
    if (!by) return this._session.tell('warning', 'Give your name below "Save" first: it is noted who goes back to an earlier version.');
    const to = this.versions?.previous[0];
    return this._session.ask({
      text: `Answer with version ${to} again instead of ${this.versions?.served}? That holds for everybody who uses task "${this.task}".`,
      label: 'Go back', act: () => void this._rollBack(by),
    });
  }

  /** @param {string} by */
  async _rollBack(by) {
    try {
      const { served } = await server.rollBack(this.task, by, 'asked for in OHIF');
      this._session.tell('info', `Version ${served} of task "${this.task}" answers from now on.`);
      await this._list(this.task);
    } catch (error) {
      this._session.fail(error);
    }
  }
}

const OVER = /^(not started|done|failed|nothing to learn from|stopped)/;

/**
 * Whether nothing goes on any more, or never did.
 * @param {any} stats of a task's newest training
 */
export const isOver = (stats) => !stats.stage || OVER.test(stats.stage);

/**
 * Dice after the most clicks that were measured.
 * @param {any} scores @returns {number | null}
 */
export function diceOf(scores) {
  const dice = scores?.dice_at;
  const values = /** @type {any[]} */ (Array.isArray(dice) ? dice : Object.values(dice || {}));
  const last = values.filter((one) => one !== null).pop();
  const value = typeof last === 'object' ? last?.mean : last;
  return typeof value === 'number' ? value : null;
}
