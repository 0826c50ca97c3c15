"""Images and label maps for the goldens: made of whole numbers and a frozen generator, so every machine makes the same.

Shapes lie in voxel indices, not in mm: the affine only says how large and how turned they are for the server.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

# Rotations of whole numbers, so that no sine is rounded differently elsewhere.
_UPRIGHT = np.diag([-1.0, -1.0, 1.0])
_TURNED_12_5_13 = np.array([[-12.0, 5, 0], [-5, -12, 0], [0, 0, 13]]) / 13
_TURNED_8_4_1 = np.array([[-8.0, -1, 4], [-1, -8, -4], [4, -4, 7]]) / 9
_SAGITTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
_LEFT_HANDED = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Ellipsoid:
    """A solid.

    Attributes:
        centre: voxel.
        radii: voxels along i, j, k.
        value: of its voxels.
    """

    centre: Triple
    radii: Triple
    value: int

    def inside(self, shape: Triple) -> np.ndarray:
        """(i, j, k) bool, decided with whole numbers alone."""
        i, j, k = np.ogrid[tuple(slice(0, length) for length in shape)]
        a, b, c = (radius * radius for radius in self.radii)
        x, y, z = ((axis - middle) ** 2 for axis, middle in zip((i, j, k), self.centre, strict=True))
        return np.asarray(x * b * c + y * a * c + z * a * b <= a * b * c)


@dataclass(frozen=True)
class Phantom:
    """An image.

    Attributes:
        shape: voxels along i, j, k.
        spacing: mm along i, j, k.
        directions: (3, 3), columns are the RAS directions of i, j, k.
        outside: value around the body.
        solids: painted first to last.
        lesion: which of the solids label maps are about.
        noise: a voxel's noise is the mean of four whole numbers from -noise to noise.
        seed: of the noise.
        gradient: added per 16 voxels along i, as a receive coil does it in MR.
    """

    shape: Triple
    spacing: tuple[float, float, float]
    directions: np.ndarray
    outside: int
    solids: tuple[Ellipsoid, ...]
    lesion: int
    noise: int
    seed: int
    gradient: int = 0

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index to RAS mm; voxel (0, 0, 0) lies at (31, -17, 250)."""
        affine = np.eye(4)
        affine[:3, :3] = self.directions * np.array(self.spacing)
        affine[:3, 3] = 31, -17, 250
        return affine

    def voxels(self) -> np.ndarray:
        """(i, j, k) int16."""
        image = np.full(self.shape, self.outside, np.int64)
        for solid in self.solids:
            image[solid.inside(self.shape)] = solid.value
        # The one generator whose numbers numpy promises never to change.
        noise = np.random.RandomState(self.seed).randint(-self.noise, self.noise + 1, (4, *self.shape))
        image += noise.sum(axis=0) // 4
        image += self.gradient * (np.arange(self.shape[0]) // 16)[:, None, None] * (image > self.outside + self.noise)
        return image.astype(np.int16)


PHANTOMS: dict[str, Phantom] = {
    # A body of fat and muscle with a bright lesion (30, 40, 20), a dark one (64, 46, 26) and a small one (50, 28, 32).
    "ct_axial": Phantom(
        (96, 88, 44), (0.9, 0.9, 1.5), _UPRIGHT, -1000,
        (
            Ellipsoid((48, 44, 22), (46, 41, 40), -100), Ellipsoid((48, 44, 22), (41, 36, 36), 45),
            Ellipsoid((30, 40, 20), (11, 9, 7), 120), Ellipsoid((64, 46, 26), (9, 12, 8), -15),
            Ellipsoid((50, 28, 32), (4, 4, 3), 150), Ellipsoid((48, 62, 22), (7, 7, 60), 400),
        ),
        2, 60, 1,
    ),
    # The same kind of body, oblique by 39 degrees, thick slices; lesions (24, 34, 12) and (52, 30, 16).
    "ct_oblique": Phantom(
        (76, 68, 28), (1.1, 1.1, 2.6), _TURNED_8_4_1, -1000,
        (
            Ellipsoid((38, 34, 14), (36, 32, 30), -90), Ellipsoid((38, 34, 14), (31, 27, 26), 50),
            Ellipsoid((24, 34, 12), (9, 8, 4), 125), Ellipsoid((52, 30, 16), (7, 9, 4), -10),
        ),
        2, 60, 2,
    ),
    # Sagittal slices; a lesion (20, 36, 30).
    "ct_sagittal": Phantom(
        (40, 72, 64), (1.4, 1.0, 1.0), _SAGITTAL, -1000,
        (
            Ellipsoid((20, 36, 32), (30, 33, 29), -95), Ellipsoid((20, 36, 32), (26, 28, 25), 40),
            Ellipsoid((20, 36, 30), (7, 10, 10), 115),
        ),
        2, 60, 3,
    ),
    # Left-handed; a lesion (30, 26, 18).
    "ct_left_handed": Phantom(
        (60, 56, 36), (1.2, 1.0, 1.8), _LEFT_HANDED, -1000,
        (Ellipsoid((30, 28, 18), (28, 26, 30), 40), Ellipsoid((30, 26, 18), (9, 10, 6), 120)),
        1, 60, 4,
    ),
    # An organ of 16 cm (40, 36, 22) and a structure of 32 cm around it: each outgrows a narrower region.
    "ct_large": Phantom(
        (88, 80, 48), (3.5, 3.5, 5.0), _UPRIGHT, -1000,
        (
            Ellipsoid((44, 40, 24), (42, 37, 40), -100), Ellipsoid((40, 36, 22), (23, 20, 15), 115),
            Ellipsoid((72, 40, 26), (6, 6, 5), 60),
        ),
        1, 50, 5,
    ),
    # A limb in MR: arbitrary unit, coil gradient, 4.5 mm slices; lesions (34, 36, 12) and (60, 44, 14).
    "mr_thick": Phantom(
        (88, 80, 24), (0.8, 0.8, 4.5), _TURNED_12_5_13, 0,
        (
            Ellipsoid((44, 40, 12), (40, 36, 40), 420), Ellipsoid((44, 40, 12), (35, 31, 36), 210),
            Ellipsoid((34, 36, 12), (13, 11, 5), 560), Ellipsoid((60, 44, 14), (8, 9, 3), 90),
        ),
        2, 80, 6, 24,
    ),
    # MR with a structure of 14 cm (38, 36, 24).
    "mr_large": Phantom(
        (76, 72, 48), (2.5, 2.5, 4.0), _UPRIGHT, 0,
        (Ellipsoid((38, 36, 24), (36, 34, 30), 200), Ellipsoid((38, 36, 24), (26, 28, 14), 640)),
        1, 80, 7,
    ),
    # PET in Bq/ml: background, a hot lesion (22, 24, 18) and a warm one (38, 26, 24).
    "pet": Phantom(
        (60, 52, 40), (4.0, 4.0, 4.0), _UPRIGHT, 20,
        (
            Ellipsoid((30, 26, 20), (26, 20, 30), 900), Ellipsoid((22, 24, 18), (6, 5, 5), 9000),
            Ellipsoid((38, 26, 24), (4, 4, 3), 4500),
        ),
        1, 240, 8,
    ),
}  # fmt: skip
"""The images on the server, by their ids."""


def label_map(image: str) -> np.ndarray:
    """(i, j, k) uint8: the image's lesion, made too small and moved aside, is 1; a block on its other side is 2."""
    phantom = PHANTOMS[image]
    lesion = phantom.solids[phantom.lesion]
    i, j, k = lesion.centre
    x, y, z = lesion.radii
    shrunk = Ellipsoid((i + 2, j, k), (x * 3 // 4, y * 3 // 4, max(2, z * 3 // 4)), 1)
    labels = np.zeros(phantom.shape, np.uint8)
    labels[i - x : i - x // 2, j - y // 2 : j + y // 2 + 1, k - 1 : k + 2] = 2
    labels[shrunk.inside(phantom.shape)] = 1
    return labels


def coarse_label_map(image: str) -> tuple[np.ndarray, np.ndarray]:
    """Every second voxel along i and j of ``label_map``, and the affine of that grid."""
    affine = PHANTOMS[image].affine
    affine[:3, :2] *= 2
    return label_map(image)[::2, ::2], affine


def nifti(
    voxels: np.ndarray, affine: np.ndarray, *, slope: float = 1, intercept: float = 0, only_sform: bool = False
) -> bytes:
    """A NIfTI-1 file, uncompressed.

    Args:
        voxels: (i, j, k).
        affine: (4, 4), voxel index to RAS mm.
        slope: factor from stored values to values.
        intercept: added to them.
        only_sform: whether the header's voxel size and qform are left as if every voxel were 1 mm wide.
    """
    image = nib.Nifti1Image(voxels, None if only_sform else affine)
    image.set_sform(affine, 1)
    image.header.set_slope_inter(slope, intercept)
    return bytes(image.to_bytes())


def packed(content: bytes) -> bytes:
    """As gzip writes it, without a time in it."""
    return gzip.compress(content, mtime=0)


def nrrd(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    """An NRRD file, raw, whose space is RAS."""
    kind = {"i2": "short", "u1": "unsigned char"}[voxels.dtype.str[1:]]
    directions = " ".join(_vector(column) for column in affine[:3, :3].T)
    lines = (
        "NRRD0004", f"type: {kind}", "dimension: 3", f"sizes: {_words(voxels.shape)}", "encoding: raw",
        "endian: little", "space: right-anterior-superior", f"space origin: {_vector(affine[:3, 3])}",
        f"space directions: {directions}",
    )  # fmt: skip
    return "\n".join(lines).encode() + b"\n\n" + voxels.tobytes(order="F")


def mha(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    """A MetaImage file of int16, raw."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    lines = (
        "ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
        "CompressedData = False", f"TransformMatrix = {_words((lps[:, :3] / spacing).T.ravel())}",
        f"Offset = {_words(lps[:, 3])}", f"ElementSpacing = {_words(spacing)}", f"DimSize = {_words(voxels.shape)}",
        "ElementType = MET_SHORT", "ElementDataFile = LOCAL",
    )  # fmt: skip
    return "\n".join(lines).encode() + b"\n" + voxels.tobytes(order="F")


def _words(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _vector(values: np.ndarray) -> str:
    return "(" + ",".join(f"{value:.9g}" for value in values) + ")"
