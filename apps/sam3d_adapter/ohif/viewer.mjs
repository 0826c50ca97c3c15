/**
 * OHIF and cornerstone: the only module that knows them. Which series is on screen, where a voxel is, the label map.
 *
 * Label maps are images of their own, one a slice; cornerstone makes a volume of them where a viewport needs one.
 */

import { dot, gridOf, toIndex, toWorld, voxelAt } from './geometry.mjs';
import * as masks from './masks.mjs';
import { isOwn } from './objects.mjs';

/** @typedef {import('./geometry.mjs').Grid} Grid */
/** @typedef {import('./geometry.mjs').Triple} Triple */
/** @typedef {import('./masks.mjs').Mask} Mask */
/** @typedef {import('./objects.mjs').Item} Item */
/**
 * @typedef {object} Series
 * @property {string} uid SeriesInstanceUID, the image's id on the server
 * @property {string} studyUid
 * @property {string} modality
 * @property {string} description
 * @property {Grid} grid
 */
/**
 * @typedef {object} Pane a viewport that shows the series
 * @property {string} id
 * @property {HTMLElement} element
 * @property {(place: number[]) => {x: number, y: number, off: number}} project pixels in the element, and how many
 *   voxels the place lies off the plane that is shown
 */

// Okabe and Ito: told apart by the colour-blind.
export const COLOURS = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [204, 121, 167], [213, 94, 0], [0, 114, 178]];
/** @param {number} id of an object */
export const colourOf = (id) => COLOURS[(id - 1) % COLOURS.length];

const PROPOSED = [255, 255, 255];
/** @param {Item} item */
export const colourOfItem = (item) => (isOwn(item) ? colourOf(item.id) : PROPOSED);

const LABELMAP = 'Labelmap';
const NOT_IMAGES = new Set(['SEG', 'RTSTRUCT', 'SR', 'PR', 'KO', 'DOC', 'SM', 'OT']);

export class Viewer {
  /** @param {any} services of OHIF */
  constructor(services) {
    this._services = services;
    /** @type {Map<string, any>} */
    this._known = new Map();
    /** @type {(() => void)[]} */
    this._undo = [];
    /** @type {Set<() => void>} */
    this._onChange = new Set();
    /** @type {Set<() => void>} */
    this._onRender = new Set();
    /** @type {Set<() => void>} */
    this._onTool = new Set();
    /** @type {Set<(drawn: Map<number, Mask>) => void>} */
    this._onDrawing = new Set();
    /** @type {Map<HTMLElement, () => void>} */
    this._watched = new Map();
    /** @type {Map<string, {names: string, viewports: string}>} */
    this._shown = new Map();
    /** @type {Map<number, Mask>} */
    this._painted = new Map();
    /** @type {Item[] | null} */
    this._items = null;
    this._current = 1;
    this._said = '';
    this._isOurs = false;
    this._isDrawn = false;
    this._timer = 0;
    /** @type {Series | null} */
    this._series = null;
    /** @type {Promise<void>} */
    this._attached = Promise.resolve();
  }

  get _cs() {
    return /** @type {any} */ (window).cornerstone;
  }

  get _tools() {
    return /** @type {any} */ (window).cornerstoneTools;
  }

  /** Begin to watch. */
  start() {
    const { viewportGridService: grid, cornerstoneViewportService: viewports, displaySetService: sets, toolGroupService: groups } = this._services;
    const changed = () => this._later();
    for (const [service, names] of [
      [grid, ['ACTIVE_VIEWPORT_ID_CHANGED', 'LAYOUT_CHANGED', 'GRID_STATE_CHANGED', 'VIEWPORTS_READY']],
      [viewports, ['VIEWPORT_DATA_CHANGED', 'VIEWPORT_VOLUMES_CHANGED']],
      [sets, ['DISPLAY_SETS_ADDED', 'DISPLAY_SETS_CHANGED']],
    ]) {
      for (const name of names) {
        if (!service.EVENTS[name]) continue;
        const { unsubscribe } = service.subscribe(service.EVENTS[name], changed);
        this._undo.push(unsubscribe);
      }
    }
    const tool = groups.subscribe(groups.EVENTS.PRIMARY_TOOL_ACTIVATED ?? groups.EVENTS.TOOL_ACTIVATED, () => {
      if (!this._isOurs && isByUser) for (const told of this._onTool) told();
    });
    this._undo.push(tool.unsubscribe);
    // The viewer takes tools by itself too, such as when a layout is made.
    let isByUser = false;
    const acted = () => {
      isByUser = true;
      setTimeout(() => (isByUser = false), 200);
    };
    for (const name of ['click', 'keydown']) window.addEventListener(name, acted, true);
    this._undo.push(() => ['click', 'keydown'].forEach((name) => window.removeEventListener(name, acted, true)));
    const drawn = (/** @type {any} */ event) => {
      if (!this._isOurs && event.detail?.segmentationId === this._segmentationId) this._isDrawn = true;
    };
    this._cs.eventTarget.addEventListener('CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED', drawn);
    // Statistics that a current OHIF works out meanwhile come back with the segments of when it began.
    const described = (/** @type {any} */ event) => {
      if (this._isOurs || event.detail?.segmentationId !== this._segmentationId || !this._items) return;
      const { segments } = this._tools.segmentation.state.getSegmentation(this._segmentationId);
      const isOthers = Object.values(segments).filter(Boolean).length !== this._items.length;
      if (isOthers || this._items.some((item) => segments[item.id]?.label !== item.name)) this._describeAnew();
    };
    this._cs.eventTarget.addEventListener('CORNERSTONE_TOOLS_SEGMENTATION_MODIFIED', described);
    // A stroke ends where the button is released; a scissor draws just after that.
    const released = () => setTimeout(() => this._tellDrawing(), 50);
    window.addEventListener('mouseup', released, true);
    this._undo.push(
      () => this._cs.eventTarget.removeEventListener('CORNERSTONE_TOOLS_SEGMENTATION_DATA_MODIFIED', drawn),
      () => this._cs.eventTarget.removeEventListener('CORNERSTONE_TOOLS_SEGMENTATION_MODIFIED', described),
      () => window.removeEventListener('mouseup', released, true),
    );
    this._later();
  }

  stop() {
    clearTimeout(this._timer);
    for (const undo of this._undo.splice(0)) undo();
    for (const unwatch of this._watched.values()) unwatch();
    this._watched.clear();
    this._known.clear();
    this._shown.clear();
    this._painted.clear();
    this._series = null;
  }

  /** @param {() => void} told when another series or layout is on screen */
  onChange(told) {
    this._onChange.add(told);
  }

  /** @param {() => void} told when a viewport was drawn anew */
  onRender(told) {
    this._onRender.add(told);
  }

  /** @param {() => void} told when the user took a tool of the viewer */
  onTool(told) {
    this._onTool.add(told);
  }

  /** @param {(drawn: Map<number, Mask>) => void} told what a brush or an eraser left, of the objects that changed */
  onDrawing(told) {
    this._onDrawing.add(told);
  }

  _later() {
    clearTimeout(this._timer);
    this._timer = window.setTimeout(() => {
      this._watch();
      void this._attach();
      for (const told of this._onChange) told();
    }, 60);
  }

  /** @returns {any[]} display sets in the order in which they count: the active viewport's first */
  _displaySets() {
    const { viewportGridService, displaySetService } = this._services;
    const { activeViewportId, viewports } = viewportGridService.getState();
    const panes = [viewports.get(activeViewportId), ...viewports.values()].filter(Boolean);
    const uids = panes.flatMap((pane) => pane.displaySetInstanceUIDs || []);
    return uids.map((uid) => displaySetService.getDisplaySetByUID(uid)).filter((set) => set && !NOT_IMAGES.has(set.Modality));
  }

  /** @returns {Series | null} the one that is on screen */
  series() {
    for (const set of this._displaySets()) {
      const known = this._describe(set);
      if (known) return known.series;
    }
    return null;
  }

  /** @param {any} set @returns {{series: Series, imageIds: string[], set: any} | null} null while its geometry is unknown */
  _describe(set) {
    const uid = set.SeriesInstanceUID;
    if (this._known.has(uid)) return this._known.get(uid);
    const ids = set.imageIds?.length ? set.imageIds : (set.images || set.instances || []).map((/** @type {any} */ one) => one.imageId);
    const planes = [];
    for (const id of ids.filter(Boolean)) {
      const plane = this._cs.metaData.get('imagePlaneModule', id);
      if (!plane?.rowCosines || !plane.imagePositionPatient) return null;
      planes.push({
        id,
        row: [...plane.rowCosines],
        column: [...plane.columnCosines],
        position: [...plane.imagePositionPatient],
        spacing: /** @type {[number, number]} */ ([plane.columnPixelSpacing, plane.rowPixelSpacing]),
        size: /** @type {[number, number]} */ ([plane.columns, plane.rows]),
      });
    }
    if (!planes.length) return null;
    const { grid, sorted } = gridOf(planes);
    const known = {
      series: {
        uid, studyUid: set.StudyInstanceUID, modality: set.Modality, description: set.SeriesDescription || '', grid,
      },
      imageIds: sorted.map((plane) => plane.id),
      set,
    };
    this._known.set(uid, known);
    return known;
  }

  /** @returns {Pane[]} */
  panes() {
    const { viewportGridService, cornerstoneViewportService, displaySetService } = this._services;
    const found = [];
    for (const [id, state] of viewportGridService.getState().viewports) {
      const viewport = cornerstoneViewportService.getCornerstoneViewport(id);
      const sets = (state.displaySetInstanceUIDs || []).map((/** @type {string} */ uid) => displaySetService.getDisplaySetByUID(uid));
      const shows = this._series && sets.some((/** @type {any} */ set) => set?.SeriesInstanceUID === this._series?.uid);
      if (!viewport?.element || !shows || viewport.type === 'volume3d') continue;
      found.push({ id, element: viewport.element, project: (/** @type {number[]} */ place) => this._project(viewport, place) });
    }
    return found;
  }

  /** @param {any} viewport @param {number[]} place */
  _project(viewport, place) {
    const [x, y] = viewport.worldToCanvas(place);
    const { focalPoint, viewPlaneNormal } = viewport.getCamera();
    const off = dot(place.map((value, axis) => value - focalPoint[axis]), viewPlaneNormal);
    const { steps } = /** @type {Series} */ (this._series).grid;
    const thickness = Math.max(...steps.map((step) => Math.abs(dot(step, viewPlaneNormal))));
    return { x, y, off: Math.abs(off) / thickness };
  }

  /**
   * The pane below an event, and the voxel.
   * @param {MouseEvent} event
   * @returns {{id: string, ijk: Triple | null, place: Triple} | null}
   */
  pick(event) {
    const target = /** @type {Node} */ (event.target);
    const found = this.panes().filter(({ element }) => element.contains(target) || target.contains(element));
    // A viewport that is not the active one hides behind its frame.
    if (found.length !== 1 || !this._series) return null;
    const [pane] = found;
    const viewport = this._services.cornerstoneViewportService.getCornerstoneViewport(pane.id);
    const { left, top, right, bottom } = viewport.canvas.getBoundingClientRect();
    if (event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom) return null;
    const place = viewport.canvasToWorld([event.clientX - left, event.clientY - top]);
    return { id: pane.id, ijk: voxelAt(this._series.grid, place), place: /** @type {Triple} */ ([...place]) };
  }

  /**
   * The voxel of a pane that is nearest to an event, which may lie outside of pane and image.
   * @param {string} id @param {MouseEvent} event
   * @returns {Triple}
   */
  nearest(id, event) {
    const viewport = this._services.cornerstoneViewportService.getCornerstoneViewport(id);
    const { left, top, width, height } = viewport.canvas.getBoundingClientRect();
    const within = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(Math.max(value, 0), most);
    const place = viewport.canvasToWorld([within(event.clientX - left, width), within(event.clientY - top, height)]);
    const { grid } = /** @type {Series} */ (this._series);
    return /** @type {Triple} */ (toIndex(grid, place).map((value, axis) => within(Math.round(value), grid.shape[axis] - 1)));
  }

  /**
   * The slices that a pane shows next to a place, as an axis of the grid.
   * @param {string} id
   * @returns {number}
   */
  axisAcross(id) {
    const { viewPlaneNormal } = this._services.cornerstoneViewportService.getCornerstoneViewport(id).getCamera();
    const { steps } = /** @type {Series} */ (this._series).grid;
    const along = steps.map((step) => Math.abs(dot(step, viewPlaneNormal)) / Math.hypot(...step));
    return along.indexOf(Math.max(...along));
  }

  /**
   * What leaves the mode, if the event is on it.
   * @param {MouseEvent} event
   * @returns {Element | null}
   */
  wayOut(event) {
    return event.target instanceof Element ? event.target.closest("[data-cy='return-to-work-list']") : null;
  }

  /** @param {string} id */
  makeActive(id) {
    const { viewportGridService } = this._services;
    if (viewportGridService.getState().activeViewportId !== id) viewportGridService.setActiveViewportId(id);
  }

  /**
   * Show a voxel in every pane.
   * @param {number[]} ijk
   */
  jump(ijk) {
    if (!this._series) return;
    const place = toWorld(this._series.grid, ijk);
    for (const { id } of this.panes()) {
      const viewport = this._services.cornerstoneViewportService.getCornerstoneViewport(id);
      if (viewport.jumpToWorld) viewport.jumpToWorld(place);
      else if (viewport.setImageIdIndex) viewport.setImageIdIndex(this._stackIndex(viewport, ijk[2]));
    }
  }

  /** @param {any} viewport @param {number} k */
  _stackIndex(viewport, k) {
    const id = this._known.get(/** @type {Series} */ (this._series).uid).imageIds[k];
    return Math.max(0, viewport.getImageIds().indexOf(id));
  }

  /** @param {string[]} names of a tool for the left mouse button; the first that the viewer has is taken */
  useTool(...names) {
    const { toolGroupService, viewportGridService } = this._services;
    const group = toolGroupService.getToolGroupForViewport(viewportGridService.getState().activeViewportId);
    const name = names.find((one) => group?.hasTool(one));
    if (!name) return false;
    this._ours(() => {
      const active = group.getActivePrimaryMouseButtonTool();
      if (active && active !== name) group.setToolPassive(active, { removeAllBindings: [{ mouseButton: 1 }] });
      group.setToolActive(name, { bindings: [{ mouseButton: 1 }] });
    });
    return true;
  }

  /** @param {number} mm of the brush */
  setBrushSize(mm) {
    const { toolGroupService } = this._services;
    for (const id of toolGroupService.getToolGroupIds()) {
      this._tools.utilities.segmentation.setBrushSizeForToolGroup(id, mm);
    }
  }

  /** @param {() => void} act what is no act of the user */
  _ours(act) {
    const before = this._isOurs;
    this._isOurs = true;
    try {
      act();
    } finally {
      this._isOurs = before;
    }
  }

  get _segmentationId() {
    return this._series ? `sam3d:${this._series.uid}` : '';
  }

  /**
   * Go over to a series: its label map is made if there is none.
   * @param {Series} series
   */
  async open(series) {
    const { segmentationService } = this._services;
    this._series = series;
    this._painted.clear();
    this._said = '';
    if (!segmentationService.getSegmentation(this._segmentationId)) {
      const { set, imageIds } = this._known.get(series.uid);
      // Its own list may not be there yet.
      const listed = Object.create(set, { imageIds: { value: imageIds } });
      await segmentationService.createLabelmapForDisplaySet(listed, {
        segmentationId: this._segmentationId,
        label: 'Click to segment',
        segments: { 1: { label: ' ', active: true, segmentIndex: 1 } },
      });
    }
    this._shown.clear();
    await this._attach();
  }

  /** Whether the series has its label map. */
  get isOpen() {
    return Boolean(this._segmentationId && this._services.segmentationService.getSegmentation(this._segmentationId));
  }

  /** Takes the label map away where MONAI Label's own panel is: that takes the first one that it finds for its own. */
  close() {
    const { panelService, segmentationService } = this._services;
    if (!panelService.getPanels('right').some((/** @type {any} */ panel) => panel.id.includes('monai-label'))) return;
    const id = this._segmentationId;
    if (id && segmentationService.getSegmentation(id)) this._ours(() => segmentationService.remove(id));
    this._painted.clear();
    this._said = '';
    this._items = null;
  }

  /** Shows the label map in each pane that does not show it; one call after the other. */
  _attach() {
    this._attached = this._attached.then(() => this._attachNow()).catch((error) => console.warn('sam3d:', error));
    return this._attached;
  }

  async _attachNow() {
    const { segmentationService } = this._services;
    const id = this._segmentationId;
    if (!id || !segmentationService.getSegmentation(id)) return;
    const shown = new Set(segmentationService.getViewportIdsWithSegmentation(id));
    for (const pane of this.panes()) {
      if (shown.has(pane.id)) continue;
      try {
        await segmentationService.addSegmentationRepresentation(pane.id, { segmentationId: id, type: LABELMAP });
      } catch (error) {
        console.warn('sam3d: a viewport cannot show the label map', error);
      }
    }
    if (this._items) this.describe(this._items, this._current);
  }

  _watch() {
    for (const [element, unwatch] of this._watched) {
      if (element.isConnected) continue;
      unwatch();
      this._watched.delete(element);
    }
    for (const { element } of this.panes()) {
      if (this._watched.has(element)) continue;
      const rendered = () => {
        for (const told of this._onRender) told();
      };
      const names = ['CORNERSTONE_IMAGE_RENDERED', 'CORNERSTONE_CAMERA_MODIFIED'];
      for (const name of names) element.addEventListener(name, rendered);
      this._watched.set(element, () => {
        for (const name of names) element.removeEventListener(name, rendered);
      });
    }
  }

  /** @returns {Uint8Array[]} the label map's slices, by k */
  _slices() {
    const { cache } = this._cs;
    const known = this._known.get(/** @type {Series} */ (this._series).uid);
    const data = this._tools.segmentation.state.getSegmentation(this._segmentationId).representationData[LABELMAP];
    /** @type {Map<string, string>} */
    const byReference = new Map();
    for (const id of data.imageIds) byReference.set(cache.getImage(id).referencedImageId, id);
    return known.imageIds.map((/** @type {string} */ reference) =>
      cache.getImage(byReference.get(reference)).voxelManager.getScalarData());
  }

  /**
   * Write objects into the label map.
   * @param {Item[]} items later ones on top
   */
  paint(items) {
    if (!this._series || !this._services.segmentationService.getSegmentation(this._segmentationId)) return;
    const { grid } = this._series;
    /** @type {Set<number>} */
    const changed = new Set();
    const now = new Map(items.map((item) => [item.id, item.mask]));
    for (const id of new Set([...now.keys(), ...this._painted.keys()])) {
      const [before, after] = [this._painted.get(id) || masks.EMPTY, now.get(id) || masks.EMPTY];
      if (before === after) continue;
      for (const k of masks.slicesOf(before, grid)) changed.add(k);
      for (const k of masks.slicesOf(after, grid)) changed.add(k);
    }
    if (!changed.size) return;
    const slices = this._slices();
    for (const k of changed) {
      slices[k].fill(0);
      for (const item of items) masks.paintSlice(item.mask, slices[k], k, item.id);
    }
    this._painted = now;
    this._ours(() => this._tools.segmentation.triggerSegmentationEvents.triggerSegmentationDataModified(this._segmentationId, this._framesOf([...changed])));
  }

  /** @param {number[]} ks @returns {number[]} as cornerstone numbers the slices of the label map */
  _framesOf(ks) {
    const { imageIds } = this._known.get(/** @type {Series} */ (this._series).uid);
    const data = this._tools.segmentation.state.getSegmentation(this._segmentationId).representationData[LABELMAP];
    const volume = data.volumeId && this._cs.cache.getVolume(data.volumeId);
    const ids = volume?.imageIds || data.imageIds;
    const frames = new Map(ids.map((/** @type {string} */ id, /** @type {number} */ n) => [this._cs.cache.getImage(id)?.referencedImageId, n]));
    return ks.map((k) => /** @type {number} */ (frames.get(imageIds[k]))).filter((n) => n !== undefined);
  }

  _tellDrawing() {
    if (!this._isDrawn || !this._series) return;
    this._isDrawn = false;
    const slices = this._slices();
    const size = slices[0].length;
    const drawn = new Map();
    for (const [id, before] of this._painted) {
      /** @type {number[]} */
      const runs = [];
      slices.forEach((slice, k) => {
        for (const edge of masks.fromBytes(slice, id, k * size)) {
          if (runs.length % 2 === 0 && runs[runs.length - 1] === edge) runs.pop();
          else runs.push(edge);
        }
      });
      const after = Uint32Array.from(runs);
      if (!masks.isSame(before, after)) drawn.set(id, after);
    }
    for (const [id, mask] of drawn) this._painted.set(id, mask);
    if (drawn.size) for (const told of this._onDrawing) told(drawn);
  }

  /**
   * Names, colours, locks and visibility of the segments.
   * @param {Item[]} items @param {number} current
   */
  describe(items, current) {
    const { segmentationService } = this._services;
    const id = this._segmentationId;
    this._items = items;
    this._current = current;
    if (!id || !segmentationService.getSegmentation(id)) return;
    const viewports = segmentationService.getViewportIdsWithSegmentation(id);
    const state = JSON.stringify([viewports, current, items.map((item) => [item.id, item.name, item.visible, item.locked, item.proposal])]);
    if (this._said === state) return;
    this._said = state;
    this._ours(() => {
      const segments = this._tools.segmentation.state.getSegmentation(id).segments;
      /** @type {Record<number, any>} */
      const wanted = {};
      for (const item of items) {
        wanted[item.id] = {
          ...(segments[item.id] || { cachedStats: {} }),
          segmentIndex: item.id, label: item.name, active: item.id === current,
          locked: item.id !== current || item.locked,
        };
      }
      this._tools.segmentation.updateSegmentations([{ segmentationId: id, payload: { segments: wanted, segmentOrder: items.map((item) => item.id) } }]);
      for (const viewport of viewports) {
        const shown = this._tools.segmentation.state.getSegmentationRepresentations(viewport, { segmentationId: id }) || [];
        for (const { segments: known } of shown) {
          // It knows the segments that were there when it was made.
          for (const item of items) known[item.id] ??= { visible: true };
        }
      }
      for (const item of items) {
        this._tools.segmentation.segmentLocking.setSegmentIndexLocked(id, item.id, item.id !== current || item.locked);
        for (const viewport of viewports) {
          segmentationService.setSegmentColor(viewport, id, item.id, [...colourOfItem(item), 255]);
          segmentationService.setSegmentVisibility(viewport, id, item.id, item.visible, LABELMAP);
        }
      }
      segmentationService.setActiveSegment(id, current);
    });
  }

  _describeAnew() {
    this._said = '';
    this.describe(/** @type {Item[]} */ (this._items), this._current);
  }

  /** @param {number[]} ijk @returns {number[]} place */
  placeOf(ijk) {
    return toWorld(/** @type {Series} */ (this._series).grid, ijk);
  }
}
