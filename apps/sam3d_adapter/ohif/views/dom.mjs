/** Plain DOM, with as little as the views need. */

/**
 * @param {string} tag
 * @param {Record<string, any>} [props] `on...` are listeners, `data` is the name in `data-sam3d`, the rest attributes;
 *   false and null leave one out
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'data') element.dataset.sam3d = value;
    else if (name === 'value') /** @type {HTMLInputElement} */ (element).value = value;
    else if (name === 'checked') /** @type {HTMLInputElement} */ (element).checked = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== false && child !== undefined).map((child) => /** @type {Node | string} */ (child)));
  return element;
}

/** @type {WeakMap<HTMLElement, unknown[]>} */
const filled = new WeakMap();

/**
 * Replaces what an element holds, if that changed; the focus stays on the part with the same `data-focus`.
 * @param {HTMLElement} element @param {unknown[]} shown what it depends on; objects are compared by identity
 * @param {() => (Node | null | false)[]} make
 */
export function fill(element, shown, make) {
  const before = filled.get(element);
  if (before?.length === shown.length && shown.every((value, n) => value === before[n])) return;
  filled.set(element, shown);
  const active = document.activeElement;
  const focus = active instanceof HTMLElement && element.contains(active) ? active.dataset.focus : undefined;
  element.replaceChildren(...make().filter((child) => child !== null && child !== false).map((child) => /** @type {Node} */ (child)));
  if (focus) {
    const again = /** @type {HTMLElement | null} */ (element.querySelector(`[data-focus="${CSS.escape(focus)}"]`));
    again?.focus();
  }
}

/**
 * A button.
 * @param {string} label @param {() => void} act @param {Record<string, any>} [props] @param {...(Node | string | null | false)} more
 */
export const button = (label, act, props = {}, ...more) =>
  h('button', { type: 'button', onclick: act, 'data-focus': props.data || label, ...props }, ...more, ...(props['aria-label'] ? [] : [label]));

/** Icons, 16 x 16, drawn with lines. */
const PATHS = /** @type {Record<string, string>} */ ({
  eye: 'M1 8s2.5-4.5 7-4.5S15 8 15 8s-2.5 4.5-7 4.5S1 8 1 8zM8 6.2a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z',
  hidden: 'M1 8s2.5-4.5 7-4.5S15 8 15 8s-2.5 4.5-7 4.5S1 8 1 8zM2 14 14 2',
  lock: 'M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5',
  unlock: 'M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 4.8-1',
  target: 'M8 1v3M8 12v3M1 8h3M12 8h3M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7z',
  bin: 'M2.5 4.5h11M6 4.5V2.5h4v2M4 4.5l.7 9h6.6l.7-9',
  undo: 'M3 6h6.5a3.5 3.5 0 0 1 0 7H6M3 6l3-3M3 6l3 3',
  redo: 'M13 6H6.5a3.5 3.5 0 0 0 0 7H10M13 6l-3-3M13 6l-3 3',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  box: 'M3 3h10v10H3z',
  brush: 'M13.5 2.5 7 9M6.8 8.8a2.3 2.3 0 0 0-2.6.6C3 10.7 4 12 2 13.5c2.5.6 4.600.2 5.600-.9a2.300 2.300 0 0 0-.2-3.400z',
  eraser: 'M9.500 3 14 7.500 8.500 13H5.500L2.500 10zM6 6.500l4.500 4.500',
  cross: 'M4 4l8 8M12 4l-8 8',
  hand: 'M3 8h10M8 3v10M3 8l2-2M3 8l2 2M13 8l-2-2M13 8l-2 2M8 3 6 5M8 3l2 2M8 13l-2-2M8 13l2-2',
  reset: 'M3 8a5 5 0 1 0 1.600-3.700M3 2.500v3h3',
});

/** @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 's3-icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}
