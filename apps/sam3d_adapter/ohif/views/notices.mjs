/** What the server or the panel has to say, the newest first; and what is asked once more. */

import { button, fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Notice} Notice */
/** @typedef {import('../session.mjs').Session} Session */

const KINDS = { info: 'Note', warning: 'Warning', error: 'Error' };

/** @param {Notice} notice @param {boolean} isLast */
const noticeView = (notice, isLast) =>
  h('div', { class: `s3-notice s3-${notice.kind}`, role: notice.kind === 'error' && isLast ? 'alert' : null },
    h('span', { class: 's3-hidden-text' }, `${KINDS[notice.kind]}: `),
    h('span', { data: isLast ? 'message' : 'earlier-message', 'data-kind': notice.kind }, notice.text),
    notice.action && isLast && button(notice.action.label, notice.action.act, { class: 's3-link', data: 'message-action' }));

/** @param {Session} session @returns {HTMLElement} */
export function noticesView(session) {
  const last = h('div', { role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages' });
  // Opened by the user alone: what opens below the mouse or with the focus moves the button that is being pressed.
  const list = h('div', {});
  const earlier = h('details', { class: 's3-earlier' }, h('summary', {}, 'Earlier messages'), list);
  session.subscribe(() => {
    const [newest, ...others] = session.notices;
    fill(last, [newest], () => [newest && noticeView(newest, true)]);
    fill(list, [session.notices], () => others.map((notice) => noticeView(notice, false)));
    earlier.hidden = !others.length;
  });
  return h('section', { class: 's3-section s3-messages', 'aria-label': 'Messages' }, last, earlier);
}

/** @param {Session} session @returns {HTMLElement} */
export function questionView(session) {
  const root = h('div', { class: 's3-question-slot' });
  session.subscribe(() => {
    const question = session.question;
    fill(root, [question], () => [
      question && h('div', { class: 's3-question', role: 'alertdialog', 'aria-label': 'Please confirm', 'aria-describedby': 's3-question' },
        h('p', { id: 's3-question' }, question.text),
        h('div', { class: 's3-row s3-buttons' },
          button(question.label, () => session.answer(true), { data: 'confirm', class: 's3-primary' }),
          button('Cancel', () => session.answer(false), { data: 'cancel' }))),
    ]);
  });
  return root;
}
