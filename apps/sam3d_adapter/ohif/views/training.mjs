/** Training of the chosen task, as far as a radiologist wants to know it. */

import { reportAddress } from '../server.mjs';
import { isOpen } from '../store.mjs';
import { isOver } from '../training.mjs';
import { button, fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */
/** @typedef {import('../training.mjs').Training} Training */
/** @typedef {import('../training.mjs').Version} Version */

const MOST = 5;

/** @param {number} seconds */
const minutes = (seconds) => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`);
/** @param {number | null | undefined} value */
const two = (value) => (typeof value === 'number' ? value.toFixed(2) : '-');

/** @param {any} stats @param {boolean} isRunning @returns {string} */
export function progressOf(stats, isRunning) {
  // What the training before left is there until the process of this one runs.
  if (isRunning && isOver(stats)) return 'Starting...';
  if (!stats.stage) return 'Never trained here.';
  const parts = [stats.stage];
  if (stats.epoch || !isOver(stats)) parts.push(`epoch ${stats.epoch} of ${stats.total_epochs}`);
  const dice = /** @type {number[]} */ (Object.values(stats.dice || {}));
  if (dice.length) parts.push(`validation Dice ${two(Math.max(...dice))}`);
  if (stats.seconds_left !== undefined) parts.push(`about ${minutes(stats.seconds_left)} left`);
  return parts.join(', ');
}

/** @param {any} stats @returns {string} */
export function outcomeOf(stats) {
  if (stats.published === undefined) return (stats.reasons || []).join(' ');
  const decision = stats.published ? `Version ${stats.version} was published.` : `Version ${stats.version} was not published.`;
  return [decision, ...(stats.reasons || [])].join(' ');
}

/**
 * Validation Dice of the versions, oldest first.
 * @param {Version[]} list
 */
function curve(list) {
  const values = /** @type {number[]} */ (list.map((one) => one.dice).filter((value) => value !== null));
  if (values.length < 2) return null;
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 100 32');
  svg.setAttribute('class', 's3-curve');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', `Validation Dice of the versions: ${values.map(two).join(', ')}`);
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
  line.setAttribute('points', values.map((value, n) => `${((100 * n) / (values.length - 1)).toFixed(1)},${(31 - 30 * value).toFixed(1)}`).join(' '));
  svg.append(line);
  return svg;
}

/** @param {Session} session @param {Training} training @returns {HTMLElement} */
export function trainingView(session, training) {
  const start = button('Train', () => void training.start(), { data: 'train', class: 's3-primary', title: 'Learn from the submitted labels of this task' });
  const stop = button('Stop', () => void training.stop(), { data: 'stop-training' });
  const status = h('p', { data: 'training-status', role: 'status', 'aria-live': 'polite' });
  const bar = /** @type {HTMLProgressElement} */ (h('progress', { class: 's3-progress', max: 1, 'aria-label': 'Progress of the training' }));
  const outcome = h('p', { class: 's3-about', data: 'training-outcome' });
  const versions = h('div', {});
  const summary = h('summary', {}, 'Training');
  const details = /** @type {HTMLDetailsElement} */ (h('details', { data: 'training', open: isOpen('training'), ontoggle: () => training.show(details.open) }, summary,
    h('div', { class: 's3-row s3-buttons' }, start, stop), status, bar, outcome, versions));
  const root = h('section', { class: 's3-section', 'aria-label': 'Training' }, details);
  const update = () => {
    const task = session.chosen;
    root.hidden = task?.name === '';
    summary.textContent = task ? `Training of task ${task.name}` : 'Training';
    start.toggleAttribute('disabled', !task?.isTrainable || training.isRunning);
    stop.hidden = !training.isRunning;
    const { stats } = training;
    const text = progressOf(stats, training.isRunning);
    if (status.textContent !== text) status.textContent = text;
    status.dataset.running = String(training.isRunning);
    bar.hidden = !training.isRunning;
    if (stats.total_epochs) bar.value = stats.epoch / stats.total_epochs;
    else bar.removeAttribute('value');
    outcome.textContent = training.isRunning ? '' : outcomeOf(stats);
    const found = training.versions;
    fill(versions, [found, training.task], () => !found ? [] : [
      found.list.length ? h('table', { class: 's3-versions' },
        h('thead', {}, h('tr', {}, ...['Version', 'Dice', 'State'].map((title) => h('th', { scope: 'col' }, title)))),
        h('tbody', {}, ...found.list.slice(-MOST).reverse().map((one) =>
          h('tr', { data: 'version', 'data-id': one.id, 'data-state': one.state, title: one.reasons.join(' ') },
            h('td', {}, one.id.split('-')[0]), h('td', {}, one.before === null ? two(one.dice) : `${two(one.before)} \u2192 ${two(one.dice)}`), h('td', {}, one.state))))) : null,
      curve(found.list),
      h('div', { class: 's3-row' }, h('span', {}, `Answers: ${found.served}`), h('a', { href: reportAddress(training.task), target: '_blank', rel: 'noopener' }, 'Report')),
      found.previous.length ? button(`Go back to ${found.previous[0].split('-')[0]}`, () => training.rollBack(), { data: 'roll-back' }) : null,
    ]);
  };
  session.subscribe(update);
  training.subscribe(update);
  return root;
}
