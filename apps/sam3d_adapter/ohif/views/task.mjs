/** Which task answers, and what it says of itself. */

import { fill, h } from './dom.mjs';

/** @typedef {import('../session.mjs').Session} Session */

/** @param {Session} session @returns {HTMLElement} */
export function taskView(session) {
  const select = /** @type {HTMLSelectElement} */ (
    h('select', { id: 's3-task', data: 'task', onchange: () => void session.chooseTask(select.value) })
  );
  const choice = h('div', {}, h('label', { class: 's3-label', for: 's3-task' }, 'Task'), select);
  const about = h('p', { class: 's3-about' });
  session.subscribe(() => {
    const shown = session.offered.map((task) => [task.name, session.misfit(task)]);
    fill(select, [JSON.stringify(shown)], () => session.offered.map((task) => {
      const misfit = session.misfit(task);
      return h('option', { value: task.name, title: misfit || task.description },
        `${task.name}: ${task.label}${task.problem ? ' (not available)' : misfit ? ` (${misfit})` : ''}`);
    }));
    select.value = session.task;
    const task = session.chosen;
    const misfit = task && session.misfit(task);
    choice.hidden = task?.name === '';
    about.textContent = task ? (misfit && task.name ? `This task ${misfit}.` : task.description) : '';
    about.classList.toggle('s3-bad', Boolean(misfit));
  });
  return h('section', { class: 's3-section', 'aria-label': 'Task' }, choice, about);
}
