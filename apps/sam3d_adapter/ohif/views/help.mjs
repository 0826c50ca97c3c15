/** Keys and mouse, in a dialog. */

import { button, h } from './dom.mjs';

const KEYS = [
  ['Click', 'foreground click, answered at once'],
  ['Ctrl + click', 'background click (also Alt, Cmd)'],
  ['Shift + drag', 'box'],
  ['F  B  X', 'foreground, background, box'],
  ['P  E', 'brush, eraser'],
  ['V', "the viewer's own tool for the left button"],
  ['Ctrl + Z', 'undo'],
  ['Ctrl + Shift + Z', 'redo (also Ctrl + Y)'],
  ['Delete', 'remove the chosen prompt, or the last one'],
  ['Esc', 'call off what is under way; otherwise back to the viewer'],
  ['N', 'new object'],
  ['G', 'ask the server now'],
  ['O', 'show what the server proposes, or hide it'],
  ['A', 'accept the proposal'],
  ['Wheel, right, middle', 'scroll, zoom, move, as ever'],
];

/** @returns {{element: HTMLElement, show: () => void, hide: () => boolean}} `hide` says whether it was shown */
export function helpView() {
  const dialog = /** @type {HTMLDialogElement} */ (h('dialog', { class: 's3-help', 'aria-labelledby': 's3-help-title', data: 'help' },
    h('h3', { id: 's3-help-title' }, 'Mouse and keys'),
    h('dl', {}, ...KEYS.flatMap(([key, what]) => [h('dt', {}, key), h('dd', {}, what)])),
    button('Close', () => dialog.close(), { class: 's3-primary' })));
  const hide = () => {
    const { open } = dialog;
    dialog.close();
    return open;
  };
  return { element: dialog, show: () => (dialog.open ? dialog.close() : dialog.showModal()), hide };
}
