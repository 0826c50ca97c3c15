/** Who works here, and storing what was made. */

import { button, fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */

const STATES = { storing: 'Storing...', 'not-saved': 'Not saved', saved: 'Saved', empty: '' };

/** @param {Session} session @returns {HTMLElement} */
export function submitView(session) {
  const name = /** @type {HTMLInputElement} */ (
    h('input', { type: 'text', id: 's3-author', data: 'author', value: session.saving.author, maxlength: 60, autocomplete: 'name', placeholder: 'Your name', onchange: () => session.saving.setAuthor(name.value) })
  );
  const draft = button('Save draft', () => void session.saving.submit('draft'), { data: 'submit-draft', title: 'Keep it on the server; nothing learns from it' });
  const final = button('Submit final', () => void session.saving.submit('final'), { data: 'submit-final', class: 's3-primary', title: 'Store it for good; training learns from it' });
  const state = h('span', { class: 's3-saved', data: 'save-state' });
  const stored = h('div', { class: 's3-stored' });
  session.subscribe(() => {
    const isNothing = !session.hasMask;
    draft.toggleAttribute('disabled', isNothing || session.saving.isSubmitting);
    final.toggleAttribute('disabled', isNothing || session.saving.isSubmitting);
    const now = session.saving.isSubmitting ? 'storing' : session.isWorkUnsaved ? 'not-saved' : session.hasMask ? 'saved' : 'empty';
    if (state.dataset.state !== now) [state.dataset.state, state.textContent] = [now, STATES[now]];
    const offers = session.saving.offers;
    fill(stored, [offers.map((offer) => offer.text).join('|')], () => offers.map((offer) =>
      h('div', { class: 's3-row s3-offer' }, h('span', {}, offer.text), button('Open', offer.open, { data: `open-${offer.name}` }))));
  });
  return h('section', { class: 's3-section', 'aria-label': 'Save' },
    h('div', { class: 's3-head' }, h('h3', {}, 'Save'), state),
    h('div', { class: 's3-row' }, h('label', { for: 's3-author' }, 'By'), name),
    h('div', { class: 's3-row s3-buttons' }, draft, final),
    stored);
}
