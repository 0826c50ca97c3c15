/** The objects of this task in this image, and the prompts of the one at hand. */

import * as masks from '../masks.mjs';
import { predictionOf, shortPredictionOf } from '../answering.mjs';
import { isOwn } from '../objects.mjs';
import { colourOfItem } from '../viewer.mjs';
import { button, fill, h, icon } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */
/** @typedef {import('../objects.mjs').Item} Item */

/**
 * Two faces of one button, which keeps the focus.
 * @type {Record<string, string>}
 */
const SLOTS = { hidden: 'eye', unlock: 'lock' };

/** @type {WeakMap<Uint32Array, string>} */
const sizes = new WeakMap();

/** @param {Session} session @param {Item} item */
function sizeOf(session, item) {
  if (!session.series || !item.mask.length) return '';
  const known = sizes.get(item.mask);
  if (known) return known;
  const ml = session.millilitres(item);
  const text = `${ml >= 10 ? ml.toFixed(0) : ml.toFixed(2)} ml, ${masks.diameterOf(item.mask, session.series.grid).toFixed(0)} mm`;
  sizes.set(item.mask, text);
  return text;
}

/** @param {Session} session @param {Item} item @param {boolean} isCurrent */
function row(session, item, isCurrent) {
  const name = /** @type {HTMLInputElement} */ (h('input', {
    type: 'text', class: 's3-name', value: item.name, maxlength: 60, 'aria-label': 'Name of the object', 'data-focus': `name-${item.id}`,
    onchange: () => session.editing.describeItem(item.id, { name: name.value.trim() }),
    onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === 'Enter' && name.blur(),
  }));
  const small = (/** @type {string} */ what, /** @type {string} */ label, /** @type {() => void} */ act, /** @type {boolean} */ isOn = false) =>
    button('', act, { class: `s3-small${isOn ? ' s3-on' : ''}`, title: label, 'aria-label': `${label}: ${item.name}`, 'data-focus': `${SLOTS[what] || what}-${item.id}` }, icon(what));
  const clicks = item.prompts.length;
  return h('li', {
    data: 'object', class: `s3-object${isCurrent ? ' s3-current' : ''}${isOwn(item) ? '' : ' s3-proposed'}`, 'data-proposal': item.proposal || null, 'data-name': item.name, 'data-id': item.id,
    'data-voxels': masks.count(item.mask), 'data-clicks': clicks, 'aria-current': isCurrent ? 'true' : null,
    onclick: () => session.editing.chooseItem(item.id),
  },
  h('div', { class: 's3-object-head' },
    h('span', { class: 's3-colour', style: `background: rgb(${colourOfItem(item).join(',')})`, 'aria-hidden': 'true' }),
    isCurrent ? name : button(item.name, () => session.editing.chooseItem(item.id), { class: 's3-choose', 'data-focus': `choose-${item.id}`, title: 'Go on with this object' }),
    small('target', 'Jump to', () => session.editing.jumpTo(item.id)),
    item.visible ? small('eye', 'Hide', () => session.editing.describeItem(item.id, { visible: false })) : small('hidden', 'Show', () => session.editing.describeItem(item.id, { visible: true }), true),
    item.locked ? small('lock', 'Unlock', () => session.editing.describeItem(item.id, { locked: false }), true) : small('unlock', 'Lock', () => session.editing.describeItem(item.id, { locked: true })),
    small('bin', 'Delete', () => session.editing.removeItem(item.id))),
  h('div', { class: 's3-size' }, [sizeOf(session, item), clicks ? `${clicks} ${clicks === 1 ? 'prompt' : 'prompts'}` : ''].filter(Boolean).join(' \u00b7 ') || 'empty'),
  isOwn(item) ? null : proposalRow(session),
  isCurrent && clicks ? promptList(session, item) : null);
}

/** @param {Session} session */
function proposalRow(session) {
  const { proposing, work } = session;
  const words = ['proposal', shortPredictionOf(work?.proposal?.facts || {})].filter(Boolean).join(', ');
  return h('div', { class: 's3-row s3-buttons s3-proposal' }, h('span', { class: 's3-state' }, words),
    button('Accept', () => proposing.accept(), { data: 'accept-proposal', class: 's3-primary', title: 'It is your object from now on (A)', 'aria-keyshortcuts': 'a' }),
    button('Hide', () => proposing.hide(), { data: 'hide-proposal', title: 'Take it off the screen; it is offered again (O)', 'aria-keyshortcuts': 'o' }),
    button('Reject', () => void proposing.reject(), { data: 'reject-proposal', title: 'It is of no use: it is offered to nobody any more' }));
}

/** @param {Session} session @returns {HTMLElement} there while something is proposed that is not on screen */
function offerView(session) {
  const root = h('div', {});
  session.subscribe(() => {
    const { offer } = session.proposing;
    fill(root, [offer], () => [
      offer && h('div', { class: 's3-row s3-offer', data: 'proposal' },
        h('span', {}, `The server proposes a mask of "${offer.facts.structure}". ${predictionOf(offer.facts)}`),
        button('Show proposal', () => void session.proposing.show(), { data: 'show-proposal', title: 'Look at it; accept or correct it then (O)', 'aria-keyshortcuts': 'o' })),
    ]);
  });
  return root;
}

/** @param {Session} session @param {Item} item */
function promptList(session, item) {
  return h('ul', { class: 's3-prompts', 'aria-label': `Prompts of ${item.name}` }, ...item.prompts.map((prompt, n) => {
    const isSelected = session.editing.selected?.id === item.id && session.editing.selected.n === n;
    const what = { '+': 'Foreground', '-': 'Background', box: 'Box' }[prompt.sign];
    const place = prompt.to ? `${prompt.ijk.join(', ')} to ${prompt.to.join(', ')}` : prompt.ijk.join(', ');
    return h('li', {
      data: 'prompt', class: `s3-prompt${isSelected ? ' s3-selected' : ''}`, 'data-sign': prompt.sign, 'data-ijk': prompt.ijk.join(','),
      'data-to': prompt.to ? prompt.to.join(',') : null,
    },
    button(`${prompt.sign === 'box' ? '\u25a1' : prompt.sign === '-' ? '\u2212' : '+'} ${n + 1}`, () => session.editing.select(item.id, n), {
      class: 's3-chip', title: `${what} ${n + 1} at voxel ${place}; Delete removes it`, 'aria-pressed': String(isSelected), 'data-focus': `prompt-${n}`,
    }),
    button('', () => session.editing.removePrompt(item.id, n), { class: 's3-small', title: 'Remove this prompt', 'aria-label': `Remove prompt ${n + 1}`, 'data-focus': `remove-${n}` }, icon('cross')));
  }));
}

/** @param {Session} session @returns {HTMLElement} */
export function objectsView(session) {
  const list = h('ul', { class: 's3-objects' });
  const add = button('New object', () => session.editing.addItem(), { data: 'add-object', title: 'Add an object (N)', 'aria-keyshortcuts': 'n' }, icon('plus'));
  const overwrite = /** @type {HTMLInputElement} */ (
    h('input', { type: 'checkbox', id: 's3-overwrite', data: 'overwrite', onchange: () => session.editing.setOverwrite(overwrite.checked) })
  );
  const allow = h('div', { class: 's3-row' }, overwrite, h('label', { for: 's3-overwrite' }, 'May take voxels of other objects'));
  session.subscribe(() => {
    const state = session.state;
    overwrite.checked = session.editing.mayOverwrite;
    allow.hidden = (state?.items.length || 0) < 2;
    fill(list, [state, session.editing.selected], () => (state?.items || []).map((item) => row(session, item, item.id === state?.current)));
  });
  return h('section', { class: 's3-section', 'aria-label': 'Objects' },
    h('div', { class: 's3-head' }, h('h3', {}, 'Objects'), add), offerView(session), list, allow);
}
