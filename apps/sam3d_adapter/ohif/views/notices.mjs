/** What the server or the panel has to say, the newest first; and what is asked once more. */

import { button, fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */

const KINDS = { info: 'Note', warning: 'Warning', error: 'Error' };

/** @param {Session} session @returns {HTMLElement} */
export function noticesView(session) {
  const list = h('div', { class: 's3-notices', role: 'log', 'aria-live': 'polite', 'aria-label': 'Messages' });
  /** @type {unknown} */
  let shown = null;
  session.subscribe(() => {
    if (shown === session.notices) return;
    shown = session.notices;
    fill(list, String(Math.random()), () => session.notices.map((notice, n) =>
      h('div', { class: `s3-notice s3-${notice.kind}${n ? ' s3-old' : ''}`, role: notice.kind === 'error' && !n ? 'alert' : null },
        h('span', { class: 's3-hidden-text' }, `${KINDS[notice.kind]}: `),
        h('span', { data: n ? 'earlier-message' : 'message', 'data-kind': notice.kind }, notice.text),
        notice.action && !n && button(notice.action.label, notice.action.act, { class: 's3-link', data: 'message-action' }))));
  });
  return h('section', { class: 's3-section s3-messages', 'aria-label': 'Messages' }, list);
}

/** @param {Session} session @returns {HTMLElement} */
export function questionView(session) {
  const root = h('div', { class: 's3-question-slot' });
  session.subscribe(() => {
    const question = session.question;
    fill(root, question ? question.text : '', () => [
      question && h('div', { class: 's3-question', role: 'alertdialog', 'aria-label': 'Please confirm', 'aria-describedby': 's3-question' },
        h('p', { id: 's3-question' }, question.text),
        h('div', { class: 's3-row s3-buttons' },
          button(question.label, () => session.answer(true), { data: 'confirm', class: 's3-primary' }),
          button('Cancel', () => session.answer(false), { data: 'cancel' }))),
    ]);
  });
  return root;
}
