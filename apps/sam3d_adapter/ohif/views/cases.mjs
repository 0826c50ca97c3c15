/** The list of cases, and the way to the next. */

import { predictionOf, shortPredictionOf } from '../answering.mjs';
import { isOpen } from '../store.mjs';
import { button, fill, h } from './dom.mjs';

/** @typedef {import('../cases.mjs').Cases} Cases */
/** @typedef {import('../session.mjs').Session} Session */

/** @param {Session} session @param {Cases} cases @returns {HTMLElement} */
export function casesView(session, cases) {
  const list = h('ul', { class: 's3-cases' });
  const next = button('Next sample', () => void cases.next(), { data: 'next-sample', title: 'The case that the server wants next' });
  const details = /** @type {HTMLDetailsElement} */ (h('details', { data: 'cases', open: isOpen('cases'), ontoggle: () => cases.show(details.open) }, h('summary', {}, 'All cases'), list));
  const update = () => {
    next.toggleAttribute('disabled', cases.isBusy);
    const open = session.series?.uid;
    fill(list, [cases.list, open], () => cases.list.map((one) =>
      h('li', { data: 'case', 'data-state': one.state, 'data-id': one.id, 'data-study': one.study, 'aria-current': one.id === open ? 'true' : null },
        button(`${one.modality} ${one.description || one.id.slice(-12)}`, () => cases.go(one), { class: 's3-case', 'data-focus': `case-${one.id}`, disabled: one.id === open }),
        h('span', { class: `s3-state s3-state-${one.state}` }, one.state + (one.by ? `, ${one.by}` : '')),
        one.proposal && h('span', { class: 's3-state', data: 'proposed', title: predictionOf(one.proposal) || null }, ['proposed', shortPredictionOf(one.proposal)].filter(Boolean).join(', ')),
        one.comment ? h('span', { class: 's3-state' }, one.comment) : null,
        one.open_by.length ? h('span', { class: 's3-state' }, `open: ${one.open_by.join(', ')}`) : null)));
  };
  session.subscribe(update);
  cases.subscribe(update);
  return h('section', { class: 's3-section', 'aria-label': 'Cases' }, h('div', { class: 's3-head' }, h('h3', {}, 'Cases'), next), details);
}
