"""A scene of 3D Slicer, without its windows: a command a line on standard input, an answer a line on standard output.

Loading, clicking, importing, exporting and drawing go through 3D Slicer's own code (package ``slicer-core``), in the
order in which its MONAI Label extension calls it. `tests.support.slicer` starts it, as a process of its own: VTK prints
much, and at its end may take its process with it.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from slicer import vtkMRMLVolumeArchetypeStorageNode
from trame_slicer.core import SlicerApp
from trame_slicer.views import DirectViewFactory, ViewLayoutDefinition
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

SIDE = 360
"""Of a picture's view, in pixels."""
CT_WINDOW = (-160, 240)
"""HU, of 3D Slicer's preset for the abdomen."""
SEGMENT_COLOUR = (1.0, 0.85, 0.2)
COLOURS = {"foreground": (0.2, 1.0, 0.2), "background": (1.0, 0.2, 0.2)}


class Scene:
    """One image, the clicks on it, and its segments. Its methods are the commands; places are RAS mm."""

    def __init__(self) -> None:
        self._app = SlicerApp()
        self._nodes = self._app.scene
        self._views: list[Any] = []
        self._volume: Any = None
        self._segmentation: Any = None
        self._points: dict[str, Any] = {}

    def open(self, image: str) -> list[int]:
        """Loads an image in place of the one before; its voxels a side."""
        for node in (self._volume, self._segmentation, *self._points.values()):
            if node is not None:
                self._nodes.RemoveNode(node)
        self._points = {}
        self._volume = self._app.io_manager.load_volumes([image])[0]
        self._segmentation = self._nodes.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
        self._segmentation.CreateDefaultDisplayNodes()
        self._segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self._volume)
        return list(self._volume.GetImageData().GetDimensions())

    def click(self, kind: str, place: Sequence[float]) -> list[list[int]]:
        """Adds a point; the voxels of all points of its kind, as the extension's ``getControlPointsXYZ`` has them."""
        if kind not in self._points:
            points = self._points[kind] = self._nodes.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", kind)
            points.CreateDefaultDisplayNodes()
            points.GetDisplayNode().SetSelectedColor(*COLOURS[kind])
            points.GetDisplayNode().SetTextScale(0)
        points = self._points[kind]
        points.AddControlPoint(*place)
        to_voxels = vtkMatrix4x4()
        self._volume.GetRASToIJKMatrix(to_voxels)
        places = (points.GetNthControlPointPosition(number) for number in range(points.GetNumberOfControlPoints()))
        return [[round(index) for index in to_voxels.MultiplyDoublePoint([*place, 1.0])[:3]] for place in places]

    def show(self, mask: str, names: Sequence[str]) -> list[str]:
        """Imports a server's mask, as ``updateSegmentationMask``; the names of all segments."""
        label_map = self._app.volumes_logic.AddArchetypeVolume(mask, "mask", 1)
        ids = vtkStringArray()
        for name in names:
            ids.InsertNextValue(name)
        segments = self._segmentation.GetSegmentation()
        for name in names:
            if not segments.GetSegmentIdBySegmentName(name):
                segments.AddEmptySegment(name, name, SEGMENT_COLOUR)
        self._app.segmentations_logic.ImportLabelmapToSegmentationNode(label_map, self._segmentation, ids)
        self._nodes.RemoveNode(label_map)
        return [segments.GetNthSegment(number).GetName() for number in range(segments.GetNumberOfSegments())]

    def export(self, file: str, names: Sequence[str]) -> None:
        """Writes segments as a label map on the image's grid, as ``onSaveLabel``."""
        label_map = self._nodes.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        segments, ids = self._segmentation.GetSegmentation(), vtkStringArray()
        for name in names:
            ids.InsertNextValue(segments.GetSegmentIdBySegmentName(name))
        logic = self._app.segmentations_logic
        logic.ExportSegmentsToLabelmapNode(self._segmentation, ids, label_map, self._volume)
        self._app.io_manager.write_node(label_map, file, vtkMRMLVolumeArchetypeStorageNode, False)
        self._nodes.RemoveNode(label_map)

    def picture(self, file: str, place: Sequence[float]) -> None:
        """Draws the axial, coronal and 3-D view, side by side, through a place."""
        if not self._views:
            self._app.view_manager.register_factory(DirectViewFactory(do_render_offscreen=True))
            kinds = (ViewLayoutDefinition.axial_view(), ViewLayoutDefinition.coronal_view())
            kinds += (ViewLayoutDefinition.threed_view(),)
            self._views = [self._app.view_manager.create_view(kind) for kind in kinds]
        self._segmentation.CreateClosedSurfaceRepresentation()
        display = self._volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*CT_WINDOW)
        drawn = []
        for number, view in enumerate(self._views):
            view.render_window().SetSize(SIDE, SIDE)
            if number < 2:
                view.set_background_volume_id(self._volume.GetID())
                view.fit_view_to_content()
                view.get_view_node().JumpSliceByOffsetting(*place)
            else:
                view.reset_camera()
                view.fit_view_to_content()
            view.render()
            drawn.append(_pixels(view.render_window()))
        Image.fromarray(np.concatenate(drawn, axis=1)).save(file, optimize=True)


def _pixels(window: Any) -> np.ndarray:
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]


def main() -> None:
    """Answers commands until there are none."""
    # What libraries print goes to standard error, the answers alone to standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scene = Scene()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(scene, name)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
