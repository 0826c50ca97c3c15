/** Registers the panel with OHIF, opens it in its mode, and takes it away with the mode. */

import { Cases } from './cases.mjs';
import { listen } from './pointer.mjs';
import { Session } from './session.mjs';
import { Training } from './training.mjs';
import { Viewer } from './viewer.mjs';
import { Overlay } from './views/overlay.mjs';
import { panelView } from './views/panel.mjs';

const ID = '@sam3d_adapter/extension';
const PANEL = `${ID}.panelModule.sam3d`;
const TRIES = 300;

/** @type {{element: HTMLElement, session: Session, end: () => void} | null} */
let running = null;

/** @param {any} services of OHIF */
function begin(services) {
  const viewer = new Viewer(services);
  const session = new Session(viewer);
  const [cases, training] = [new Cases(session), new Training(session)];
  const { element, help } = panelView(session, cases, training);
  const overlay = new Overlay(session, viewer);
  const unlisten = listen(session, viewer, {
    showHelp: help.show, hideHelp: help.hide, showBox: (corners) => overlay.showBox(corners),
  });
  const unguard = guard(session, viewer);
  viewer.start();
  void session.start();
  return {
    element,
    session,
    end() {
      unlisten();
      unguard();
      cases.end();
      training.end();
      session.answering.cancel();
      overlay.remove();
      viewer.stop();
      element.remove();
    },
  };
}

/**
 * Asks before work that is not on the server is left.
 * @param {Session} session
 * @param {Viewer} viewer
 */
function guard(session, viewer) {
  const leaving = (/** @type {BeforeUnloadEvent} */ event) => {
    if (session.isUnsaved && !session.mayLeave) event.preventDefault();
  };
  const clicked = (/** @type {MouseEvent} */ event) => {
    const way = viewer.wayOut(event);
    if (!way || !session.isUnsaved || session.mayLeave) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    session.leave(() => way.dispatchEvent(new MouseEvent('click', { bubbles: true })));
  };
  window.addEventListener('beforeunload', leaving);
  window.addEventListener('click', clicked, true);
  return () => {
    window.removeEventListener('beforeunload', leaving);
    window.removeEventListener('click', clicked, true);
  };
}

/**
 * Called with the place of the panel, and with null when that is gone.
 * @param {HTMLElement | null} root
 */
function mount(root) {
  const now = running;
  if (root && now) root.append(now.element);
  // Not before the page is settled: a new place may follow the old one at once.
  setTimeout(() => now?.session.show(now.element.isConnected), 0);
}

/** React is not in reach: an element of its kind, made by hand, whose `ref` gets the DOM. */
function component() {
  return {
    $$typeof: Symbol.for('react.element'),
    type: 'div',
    key: null,
    ref: mount,
    props: { style: { height: '100%' } },
    _owner: null,
    _store: {},
  };
}

/**
 * The side panel hears it only once it is on the page.
 * @param {any} panelService
 * @param {number} tries
 */
function open(panelService, tries) {
  if (!running || running.element.isConnected || !tries) return;
  panelService.activatePanel(PANEL, true);
  setTimeout(() => open(panelService, tries - 1), 100);
}

function addStyle() {
  if (document.getElementById('s3-style')) return;
  const link = document.createElement('link');
  Object.assign(link, { id: 's3-style', rel: 'stylesheet', href: new URL('panel.css', import.meta.url).href });
  document.head.append(link);
}

export default {
  id: ID,

  getPanelModule: () => [
    // An icon that the OHIF of MONAI Label 0.8.5 and a current one have.
    { name: 'sam3d', iconName: 'tab-roi-threshold', iconLabel: 'Click', label: 'Click to segment', component },
  ],

  /** @param {{servicesManager: any}} managers */
  onModeEnter({ servicesManager }) {
    const { services } = servicesManager;
    const { panelService } = services;
    addStyle();
    running?.end();
    running = begin(services);
    // A mode sets its panels after this, and may do so again.
    const add = () => {
      const panels = panelService.getPanels('right');
      if (!panels.length || panels.some((/** @type {any} */ panel) => panel.id === PANEL)) return;
      panelService.addPanel('right', PANEL, {});
      open(panelService, TRIES);
    };
    panelService.subscribe(panelService.EVENTS.PANELS_CHANGED, add);
    add();
  },

  onModeExit() {
    running?.end();
    running = null;
  },
};
