/** What the mouse does, undo and redo. */

import { button, fill, h, icon } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */
/** @typedef {import('../editing.mjs').Mode} Mode */

/** @type {{mode: Mode, label: string, icon: string, key: string, title: string}[]} */
const MODES = [
  { mode: 'foreground', label: 'Foreground', icon: 'plus', key: 'F', title: 'Click on the structure' },
  { mode: 'background', label: 'Background', icon: 'minus', key: 'B', title: 'Click on what does not belong to it; also Ctrl + click' },
  { mode: 'box', label: 'Box', icon: 'box', key: 'X', title: 'Drag a box around the structure; also Shift + drag' },
  { mode: 'brush', label: 'Brush', icon: 'brush', key: 'P', title: 'Paint; the next click goes on from there' },
  { mode: 'eraser', label: 'Eraser', icon: 'eraser', key: 'E', title: 'Erase; the next click goes on from there' },
  { mode: 'viewer', label: 'Viewer', icon: 'hand', key: 'V', title: "The left button works the viewer's own tool" },
];

/** @param {Session} session @returns {HTMLElement} */
export function toolsView(session) {
  const modes = MODES.map(({ mode, label, icon: name, key, title }) =>
    button(label, () => session.editing.setMode(mode), {
      data: `mode-${mode}`, class: 's3-mode', title: `${title} (${key})`, 'aria-keyshortcuts': key.toLowerCase(),
    }, icon(name)));
  const undo = button('Undo', () => session.undo(), { data: 'undo', title: 'Undo (Ctrl + Z)', 'aria-keyshortcuts': 'Control+Z' }, icon('undo'));
  const redo = button('Redo', () => session.redo(), { data: 'redo', title: 'Redo (Ctrl + Shift + Z)', 'aria-keyshortcuts': 'Control+Shift+Z' }, icon('redo'));
  const reset = button('Reset', () => session.editing.reset(), { data: 'reset', title: 'Remove all prompts and the mask of this object' }, icon('reset'));
  const automatic = /** @type {HTMLInputElement} */ (
    h('input', { type: 'checkbox', id: 's3-automatic', data: 'automatic', onchange: () => session.answering.setAutomatic(automatic.checked) })
  );
  const run = button('Run', () => session.answering.run(), { data: 'run', class: 's3-primary', title: 'Ask the server now (G)', 'aria-keyshortcuts': 'g' });
  const size = /** @type {HTMLInputElement} */ (
    h('input', { type: 'range', min: 2, max: 60, step: 1, id: 's3-brush', 'aria-label': 'Radius of the brush in mm', oninput: () => session.editing.setBrush(Number(size.value)) })
  );
  const sizeText = h('output', { for: 's3-brush' });
  const brush = h('div', { class: 's3-row' }, h('label', { for: 's3-brush' }, 'Brush radius'), size, sizeText);
  const busy = h('div', { class: 's3-busy-slot', role: 'status', 'aria-live': 'polite' });
  session.subscribe(() => {
    MODES.forEach(({ mode }, n) => modes[n].setAttribute('aria-pressed', String(session.editing.mode === mode)));
    undo.toggleAttribute('disabled', !session.canUndo);
    redo.toggleAttribute('disabled', !session.canRedo);
    reset.toggleAttribute('disabled', !session.item || (!session.item.prompts.length && !session.item.mask.length));
    automatic.checked = session.answering.isAutomatic;
    run.hidden = session.answering.isAutomatic;
    size.value = String(session.editing.brushMm);
    sizeText.textContent = `${session.editing.brushMm} mm`;
    brush.hidden = session.editing.mode !== 'brush' && session.editing.mode !== 'eraser';
    fill(busy, [session.answering.busy], () => [
      session.answering.busy && h('div', { data: 'busy', class: 's3-busy' }, h('span', { class: 's3-spinner', 'aria-hidden': 'true' }), session.answering.busy.text),
    ]);
  });
  return h('section', { class: 's3-section', 'aria-label': 'Prompts' },
    h('div', { class: 's3-modes', role: 'group', 'aria-label': 'What the left mouse button does' }, ...modes),
    brush,
    h('div', { class: 's3-row s3-buttons' }, undo, redo, reset),
    h('div', { class: 's3-row' }, automatic, h('label', { for: 's3-automatic' }, 'Answer each click at once'), run),
    busy);
}
