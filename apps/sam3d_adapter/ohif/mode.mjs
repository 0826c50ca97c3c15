/**
 * The mode for an OHIF that has no mode of MONAI Label's: OHIF's segmentation mode under that name, with three planes at
 * once. It does not turn to the viewer's own panel when a mask appears, as the segmentation mode does.
 */

const ID = 'monai-label';

export default {
  id: ID,

  /**
   * @param {{loadModules: (names: string[]) => Promise<any[]>}} given by OHIF
   * @returns {Promise<object | null>} null where OHIF builds its modes otherwise: the panel is a tab of those then
   */
  async modeFactory({ loadModules }) {
    try {
      const [{ modeInstance: basic }, { modeInstance: segmentation }] =
        await loadModules(['@ohif/mode-basic', '@ohif/mode-segmentation']);
      const [route] = segmentation.routes;
      return {
        ...segmentation,
        id: ID,
        routeName: ID,
        displayName: 'MONAI Label',
        onModeEnter: basic.onModeEnter,
        hangingProtocol: 'mpr',
        // After each answer they would hold the page up for some tenths of a second; the panel says volume and diameter.
        modeCustomizations: { 'panelSegmentation.disableUpdateSegmentationStats': true },
        routes: [{ ...route, path: ID }],
      };
    } catch (error) {
      console.error('sam3d: this OHIF has no segmentation mode as of 3.13; use the panel in one of its modes.', error);
      return null;
    }
  },
};
