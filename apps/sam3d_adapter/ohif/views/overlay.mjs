/** Prompts on the images: a mark with sign and number at each click, a frame for a box. */

import { colourOf } from '../viewer.mjs';

/** @typedef {import('../session.mjs').Session} Session */
/** @typedef {import('../viewer.mjs').Viewer} Viewer */
/** @typedef {import('../geometry.mjs').Triple} Triple */

const NEAR = 2.5; // voxels off the plane within which a click is still hinted at
const SVG = 'http://www.w3.org/2000/svg';

/** @param {string} tag @param {Record<string, unknown>} attributes @param {string} [text] */
function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Overlay {
  /** @param {Session} session @param {Viewer} viewer */
  constructor(session, viewer) {
    this._session = session;
    this._viewer = viewer;
    /** @type {[Triple, Triple] | null} */
    this._box = null;
    this._frame = 0;
    const later = () => this._later();
    viewer.onRender(later);
    viewer.onChange(later);
    session.subscribe(later);
  }

  /** @param {[Triple, Triple] | null} corners of a box that is being drawn */
  showBox(corners) {
    this._box = corners;
    this._later();
  }

  remove() {
    cancelAnimationFrame(this._frame);
    this._isGone = true;
    for (const layer of document.querySelectorAll('svg.s3-overlay')) layer.remove();
    document.body.removeAttribute('data-s3-mode');
  }

  _later() {
    if (this._frame || this._isGone) return;
    this._frame = requestAnimationFrame(() => {
      this._frame = 0;
      this._draw();
    });
  }

  _draw() {
    const { state, item, isShown, editing: { mode, selected } } = this._session;
    document.body.dataset.s3Mode = state && isShown ? mode : 'viewer';
    const panes = isShown ? this._viewer.panes() : [];
    for (const layer of document.querySelectorAll('svg.s3-overlay')) {
      if (!panes.some(({ element }) => element.contains(layer))) layer.remove();
    }
    for (const pane of panes) {
      let layer = pane.element.querySelector('svg.s3-overlay');
      if (!layer) {
        layer = draw('svg', { class: 's3-overlay', 'aria-hidden': 'true' });
        pane.element.append(layer);
      }
      /** @type {Element[]} */
      const marks = [];
      for (const one of state?.items || []) {
        if (!one.visible) continue;
        one.prompts.forEach((prompt, n) => {
          if (prompt.sign === 'box' && prompt.to) return marks.push(...this._frameOf(pane, [prompt.ijk, prompt.to], ''));
          const { x, y, off } = pane.project(this._viewer.placeOf(prompt.ijk));
          if (off > NEAR) return undefined;
          const isSelected = selected?.id === one.id && selected.n === n;
          return marks.push(this._mark(x, y, prompt.sign, n + 1, one.id, off > 0.51, isSelected, one.id === item?.id));
        });
      }
      if (this._box) marks.push(...this._frameOf(pane, this._box, 's3-drawing'));
      layer.replaceChildren(...marks);
    }
  }

  /**
   * @param {number} x @param {number} y @param {string} sign @param {number} number @param {number} id
   * @param {boolean} isNear @param {boolean} isSelected @param {boolean} isCurrent
   */
  _mark(x, y, sign, number, id, isNear, isSelected, isCurrent) {
    const kind = sign === '+' ? 's3-plus' : 's3-minus';
    const group = draw('g', {
      transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`,
      class: `s3-mark ${kind}${isNear ? ' s3-near' : ''}${isSelected ? ' s3-selected' : ''}${isCurrent ? '' : ' s3-other'}`,
    });
    group.append(
      draw('circle', { r: 6.5, style: `stroke: rgb(${colourOf(id).join(',')})` }),
      draw('path', { d: sign === '+' ? 'M-3.500 0h7M0-3.500v7' : 'M-3.500 0h7' }),
      draw('text', { x: 9, y: -5 }, String(number)),
    );
    return group;
  }

  /** @param {import('../viewer.mjs').Pane} pane @param {[Triple, Triple]} corners @param {string} kind */
  _frameOf(pane, [low, high], kind) {
    const across = this._viewer.axisAcross(pane.id);
    const [a, b] = [0, 1, 2].filter((axis) => axis !== across);
    const middle = (low[across] + high[across]) / 2;
    const corner = (/** @type {number} */ u, /** @type {number} */ v) => {
      const ijk = [0, 0, 0];
      [ijk[a], ijk[b], ijk[across]] = [u, v, middle];
      return pane.project(this._viewer.placeOf(ijk));
    };
    const points = [
      corner(low[a] - 0.5, low[b] - 0.5), corner(high[a] + 0.5, low[b] - 0.5),
      corner(high[a] + 0.5, high[b] + 0.5), corner(low[a] - 0.5, high[b] + 0.5),
    ];
    const isOn = points[0].off <= (high[across] - low[across]) / 2 + 0.51;
    if (!isOn && kind === '') return [];
    return [draw('polygon', { class: `s3-box ${kind}`, points: points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ') })];
  }
}
