/** The second reader's section: there while the series has a label that can be reviewed. */

import { nameOf, stateOf } from '../reviewing.mjs';
import { button, fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */
/** @typedef {import('../reviewing.mjs').Decision} Decision */

/** @param {Session} session @returns {HTMLElement} */
export function reviewView(session) {
  const { reviewing } = session;
  const select = /** @type {HTMLSelectElement} */ (
    h('select', { data: 'review-label', 'aria-label': 'Label to review', onchange: () => reviewing.choose(select.value) })
  );
  const state = h('p', { data: 'review-state', role: 'status', 'aria-live': 'polite' });
  const open = h('div', {});
  const comment = /** @type {HTMLTextAreaElement} */ (
    h('textarea', { id: 's3-comment', data: 'review-comment', rows: 2, maxlength: 4000, placeholder: 'Why; needed to reject' })
  );
  const decide = async (/** @type {Decision} */ decision) => {
    if (await reviewing.decide(decision, comment.value.trim())) comment.value = '';
  };
  const accept = button('Accept', () => void decide('accept'), { data: 'review-accept', class: 's3-primary', title: 'This label is right' });
  const reject = button('Reject', () => void decide('reject'), { data: 'review-reject', title: 'This label is wrong; nothing learns from it' });
  const withdraw = button('Withdraw', () => void decide('withdraw'), { data: 'review-withdraw', title: 'Take the review decision back' });
  const correct = button('Correct', () => reviewing.correct(), { data: 'review-correct', title: 'Submit your change of this label in its place' });
  const root = h('section', { class: 's3-section s3-review', 'aria-label': 'Review', hidden: true },
    h('h3', {}, 'Review'), select, state, open,
    h('label', { class: 's3-label', for: 's3-comment' }, 'Comment'), comment,
    h('div', { class: 's3-row s3-buttons' }, accept, reject),
    h('div', { class: 's3-row s3-buttons' }, correct, withdraw));
  session.subscribe(() => {
    const { label, labels, isBusy } = reviewing;
    root.hidden = !label;
    if (!label) return;
    select.hidden = labels.length < 2;
    fill(select, [labels], () => labels.map((one) => h('option', { value: one.id }, `${nameOf(one)}: ${one.state}`)));
    select.value = label.id;
    const text = `${nameOf(label)}: ${stateOf(label)}.`;
    if (state.textContent !== text) state.textContent = text;
    Object.assign(state.dataset, { state: label.state, author: label.author, id: label.id });
    const name = label.tag === 'final' ? 'open-final' : 'open-version';
    fill(open, [label.id, reviewing.isSeen], () => [
      !reviewing.isSeen && button('Open', () => void reviewing.open(), { data: name, title: 'Show this label, and go on with it' }),
    ]);
    accept.toggleAttribute('disabled', isBusy || label.state === 'accepted');
    reject.toggleAttribute('disabled', isBusy || label.state === 'rejected');
    correct.toggleAttribute('disabled', isBusy || session.saving.isSubmitting || !reviewing.isCorrected);
    withdraw.toggleAttribute('disabled', isBusy || label.state === 'submitted');
  });
  return root;
}
