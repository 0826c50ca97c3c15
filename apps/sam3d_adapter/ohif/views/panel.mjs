/** The panel: its parts, one below the other. */

import { casesView } from './cases.mjs';
import { button, h } from './dom.mjs';
import { helpView } from './help.mjs';
import { noticesView, questionView } from './notices.mjs';
import { objectsView } from './objects.mjs';
import { reviewView } from './review.mjs';
import { submitView } from './submit.mjs';
import { taskView } from './task.mjs';
import { toolsView } from './tools.mjs';
import { trainingView } from './training.mjs';

/** @typedef {import('../session.mjs').Session} Session */

/**
 * @param {Session} session @param {import('../cases.mjs').Cases} cases @param {import('../training.mjs').Training} training
 * @returns {{element: HTMLElement, help: ReturnType<typeof helpView>}}
 */
export function panelView(session, cases, training) {
  const help = helpView();
  const element = h('div', { class: 's3-panel', data: 'panel' },
    h('header', { class: 's3-title' }, h('h2', {}, 'Click to segment'), button('?', help.show, { class: 's3-small', title: 'Mouse and keys (?)', 'aria-label': 'Mouse and keys' }, '?')),
    taskView(session),
    toolsView(session),
    noticesView(session),
    objectsView(session),
    reviewView(session),
    submitView(session),
    questionView(session),
    casesView(session, cases),
    trainingView(session, training),
    help.element);
  // These keys press buttons. In a current OHIF they are shortcuts of its own as well, which would forbid that.
  element.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') event.stopPropagation();
  });
  return { element, help };
}
