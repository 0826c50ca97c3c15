/** What the user does to prompts and objects: every act becomes a step of the session's history. */

import * as masks from './masks.mjs';
import * as objects from './objects.mjs';

/** @typedef {import('./objects.mjs').Item} Item */
/** @typedef {import('./objects.mjs').Prompt} Prompt */
/** @typedef {import('./server.mjs').Task} Task */
/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {'foreground' | 'background' | 'box' | 'brush' | 'eraser' | 'viewer'} Mode */

export class Editing {
  /** @param {Session} session */
  constructor(session) {
    this._session = session;
    /** @type {Mode} */
    this.mode = 'foreground';
    this.brushMm = 10;
    this.mayOverwrite = false;
    /** @type {{id: number, n: number} | null} */
    this.selected = null;
  }

  /** @param {Mode} mode */
  setMode(mode) {
    const tools = { brush: ['SphereBrush', 'CircularBrush'], eraser: ['SphereEraser', 'CircularEraser'] };
    if (mode === 'brush' || mode === 'eraser') {
      if (!this._session.viewer.useTool(...tools[mode])) {
        return this._session.tell('warning', `This mode of the viewer has no ${mode}. Open the study in its mode for segmentation to draw by hand.`);
      }
      this._session.viewer.setBrushSize(this.brushMm);
    } else if (this.mode === 'brush' || this.mode === 'eraser') {
      this._session.viewer.useTool('WindowLevel');
    }
    return this._session.change(() => (this.mode = mode));
  }

  /** @param {number} mm */
  setBrush(mm) {
    this._session.viewer.setBrushSize(mm);
    this._session.change(() => (this.brushMm = mm));
  }

  /** @param {Prompt} prompt */
  addPrompt(prompt) {
    const [state, item, task] = [this._session.state, this._session.item, this._session.chosen];
    if (!state || !item || !task) return;
    const misfit = this._session.misfit(task);
    if (!task.name) return this._session.tell('error', task.description);
    if (task.problem) return this._session.tell('error', `Task "${task.name}" ${misfit}. Choose another task.`);
    if (item.locked) return this._session.tell('warning', `"${item.name}" is locked. Unlock it to change it, or add a new object.`);
    const index = this._session.series ? masks.indexOf(this._session.series.grid, prompt.ijk) : -1;
    const owner = state.items.find((one) => one.id !== item.id && objects.isOwn(one) && masks.has(one.mask, index));
    if (prompt.sign === '+' && owner && (owner.locked || !this.mayOverwrite)) {
      return this._session.tell('warning', `This place belongs to "${owner.name}". Choose that object to correct it, or allow overwriting.`, {
        label: `Choose ${owner.name}`, act: () => this.chooseItem(owner.id),
      });
    }
    this._session.step(objects.addPrompt(state, prompt));
    const changed = this._session.item;
    if (changed && prompt.sign === '-' && !objects.canBeAsked(changed)) {
      this._session.tell('info', 'A background click needs a foreground click as well: click on the structure.');
    }
    return undefined;
  }

  /**
   * A rectangle that was drawn: a box of its own, or one more slice of the object's box.
   * @param {[Triple, Triple]} corners
   */
  addRectangle(corners) {
    if (!this._session.item || !this._session.series) return;
    const before = this._session.item.prompts.find((prompt) => prompt.sign === 'box');
    this.addPrompt(objects.boxOf([...(before?.drawn || []), corners], this._session.series.grid));
  }

  /** @param {number} id @param {number} n */
  removePrompt(id, n) {
    if (!this._session.state) return;
    this.selected = null;
    this._session.step(objects.removePrompt(this._session.state, id, n));
  }

  removeSelected() {
    const item = this._session.item;
    const [id, n] = this.selected ? [this.selected.id, this.selected.n] : [item?.id, (item?.prompts.length || 0) - 1];
    if (id !== undefined && n >= 0) this.removePrompt(id, n);
  }

  /** @param {number} id @param {number} n */
  select(id, n) {
    const prompt = this._session.state?.items.find((item) => item.id === id)?.prompts[n];
    if (!prompt) return;
    this._session.change(() => (this.selected = { id, n }));
    this._session.viewer.jump(prompt.ijk);
  }

  reset() {
    if (this._session.state) this._session.step(objects.resetItem(this._session.state));
  }

  /** @param {boolean} isOn */
  setOverwrite(isOn) {
    this._session.change(() => (this.mayOverwrite = isOn));
  }

  addItem() {
    if (this._session.state && this._session.chosen) this._session.step(objects.addItem(this._session.state, this._session.chosen.label));
  }

  /** @param {number} id */
  chooseItem(id) {
    if (!this._session.state || this._session.state.current === id) return;
    this._session.answering.cancel();
    this._session.amend((state) => (state.items.some((item) => item.id === id) ? objects.choose(state, id) : state), true);
  }

  /** @param {number} id @param {Partial<Pick<Item, 'name' | 'visible' | 'locked'>>} facts */
  describeItem(id, facts) {
    if (facts.name !== undefined && !facts.name.trim()) return;
    this._session.amend((state) => objects.describe(state, id, facts), false);
  }

  /** @param {number} id */
  removeItem(id) {
    if (this._session.state && this._session.chosen) this._session.step(objects.removeItem(this._session.state, id, this._session.chosen.label));
  }

  /** @param {number} id */
  jumpTo(id) {
    const item = this._session.state?.items.find((one) => one.id === id);
    const voxel = item && this._session.series && masks.middleOf(item.mask, this._session.series.grid);
    if (voxel) this._session.viewer.jump(voxel);
  }
}
