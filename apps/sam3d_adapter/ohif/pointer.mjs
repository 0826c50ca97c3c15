/** Mouse and keys: what is a click on the image, a box, or a key of the panel. */

/** @typedef {import('./session.mjs').Session} Session */
/** @typedef {import('./viewer.mjs').Viewer} Viewer */
/** @typedef {import('./geometry.mjs').Triple} Triple */

const SLIP_PX = 5;
const AIMS = new Set(['foreground', 'background', 'box']);

/** @param {EventTarget | null} target */
const isText = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) &&
  !/^(checkbox|radio|range|button)$/.test(/** @type {HTMLInputElement} */ (target).type || '');

/**
 * Takes the left mouse button over images while prompts are set, and the keys of the panel. The viewer's own tools get
 * everything else.
 * @param {Session} session @param {Viewer} viewer
 * @param {{showHelp: () => void, hideHelp: () => boolean, showBox: (corners: [Triple, Triple] | null) => void}} views
 * @returns {() => void} ends it
 */
export function listen(session, viewer, views) {
  /** @type {{x: number, y: number, picked: NonNullable<ReturnType<Viewer['pick']>>, isBox: boolean} | null} */
  let down = null;
  let isSwallowed = false;

  const swallow = (/** @type {Event} */ event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  const isAiming = () => session.isShown && AIMS.has(session.editing.mode) && session.state !== null;

  /** @param {MouseEvent} event */
  function pressed(event) {
    if (event.button !== 0 || !isAiming()) return;
    const picked = viewer.pick(event);
    if (!picked) return;
    swallow(event);
    isSwallowed = true;
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    viewer.makeActive(picked.id);
    down = { x: event.clientX, y: event.clientY, picked, isBox: session.editing.mode === 'box' || event.shiftKey };
  }

  /** @param {MouseEvent} event @returns {[Triple, Triple] | null} */
  function cornersTo(event) {
    if (!down || !down.picked.ijk) return null;
    const [from, now] = [down.picked.ijk, viewer.nearest(down.picked.id, event)];
    const low = from.map((value, axis) => Math.min(value, now[axis]));
    const high = from.map((value, axis) => Math.max(value, now[axis]));
    return /** @type {[Triple, Triple]} */ ([low, high]);
  }

  /** @param {MouseEvent} event */
  function moved(event) {
    if (!down) return;
    swallow(event);
    if (down.isBox) views.showBox(cornersTo(event));
  }

  /** @param {MouseEvent} event */
  function released(event) {
    if (!down || event.button !== 0) return;
    swallow(event);
    const { x, y, picked, isBox } = down;
    const isClick = Math.hypot(event.clientX - x, event.clientY - y) <= SLIP_PX;
    const corners = isBox && !isClick ? cornersTo(event) : null;
    down = null;
    views.showBox(null);
    if (!picked.ijk) {
      session.tell('warning', 'This place lies outside of the image. Click within it.');
    } else if (corners) {
      session.editing.addRectangle(corners);
    } else if (isClick && session.editing.mode !== 'box') {
      const isBackground = session.editing.mode === 'background' || event.ctrlKey || event.metaKey || event.altKey;
      session.editing.addPrompt({ sign: isBackground ? '-' : '+', ijk: picked.ijk });
    } else if (isClick) {
      session.tell('info', 'Drag from one corner of the box to the other.');
    }
  }

  /**
   * The rest of a click that was taken.
   * @param {MouseEvent} event
   */
  function after(event) {
    if (!isAiming() && !isSwallowed) return;
    if (event.type === 'dblclick' ? viewer.pick(event) : isSwallowed) swallow(event);
    if (event.type === 'click') isSwallowed = false;
  }

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (!session.isShown || isText(event.target)) return;
    const name = event.key.toLowerCase();
    const act = event.ctrlKey || event.metaKey
      ? { z: () => (event.shiftKey ? session.redo() : session.undo()), y: () => session.redo() }[name]
      : event.altKey ? undefined : {
        delete: () => session.editing.removeSelected(),
        backspace: () => session.editing.removeSelected(),
        escape: () => views.hideHelp() || session.escape(),
        f: () => session.editing.setMode('foreground'),
        b: () => session.editing.setMode('background'),
        x: () => session.editing.setMode('box'),
        p: () => session.editing.setMode('brush'),
        e: () => session.editing.setMode('eraser'),
        v: () => session.editing.setMode('viewer'),
        n: () => session.editing.addItem(),
        g: () => session.answering.run(),
        o: () => session.proposing.toggle(),
        a: () => session.proposing.accept(),
        '?': () => views.showHelp(),
      }[name];
    if (!act) return;
    swallow(event);
    act();
  }

  const listeners = /** @type {[string, any][]} */ ([
    ['mousedown', pressed], ['mousemove', moved], ['mouseup', released], ['click', after], ['dblclick', after], ['keydown', key],
  ]);
  for (const [name, listener] of listeners) window.addEventListener(name, listener, true);
  return () => {
    for (const [name, listener] of listeners) window.removeEventListener(name, listener, true);
  };
}
