"""Ranges from which a phantom is drawn."""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class PhantomConfig:
    """Ranges of one phantom; every pair is (lowest, highest).

    Attributes:
        lesion_count: number of lesions; fewer where the body has no room.
        diameter_mm: equivalent sphere diameter.
        median_diameter_mm: median of the log-normal distribution of diameters, cut to `diameter_mm`.
        diameter_spread: standard deviation of that distribution's logarithm.
        contrast_hu: absolute difference of lesion and host tissue; the sign is random.
        visible_hu_mm: least contrast times diameter, as far as `contrast_hu` allows. Visibility in noise grows with
            contrast and size (A. Rose, 1948), and nobody outlines an invisible lesion.
        touching_share: share of lesions that abut a structure of their own density.
        necrotic_share: share of lesions of 20 mm or more with a darker core.
        noise_hu: standard deviation of the noise in the stored voxels.
        spacing_mm: in-plane voxel size, equal along both axes.
        slice_mm: distance of slices, which is also their thickness.
        in_plane_mm: field of view along each in-plane axis.
        through_plane_mm: field of view across the slices.
        oblique_share: share of volumes whose grid is rotated against the patient.
        oblique_deg: largest rotation about each axis.
        permuted_share: share of volumes not stored with axial slices last.
        limb_share: share of volumes that show a thigh and not the trunk.
        max_voxels: a larger geometry is drawn again.
        lattice_mm: step of the coarse grid on which shapes are made before they are refined.
    """

    lesion_count: tuple[int, int] = (3, 6)
    diameter_mm: Range = (8.0, 80.0)
    median_diameter_mm: float = 28.0
    diameter_spread: float = 0.55
    contrast_hu: Range = (10.0, 60.0)
    visible_hu_mm: float = 240.0
    touching_share: float = 0.55
    necrotic_share: float = 0.5
    noise_hu: Range = (15.0, 20.0)
    spacing_mm: Range = (0.7, 1.5)
    slice_mm: Range = (1.0, 3.0)
    in_plane_mm: Range = (160.0, 220.0)
    through_plane_mm: Range = (120.0, 180.0)
    oblique_share: float = 0.25
    oblique_deg: float = 12.0
    permuted_share: float = 0.1
    limb_share: float = 0.2
    max_voxels: int = 8_000_000
    lattice_mm: float = 2.0

    def __post_init__(self) -> None:
        for name in ("lesion_count", "diameter_mm", "contrast_hu", "noise_hu", "spacing_mm", "slice_mm"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be an ascending pair of positive numbers, got {(low, high)}.")


MASSES = PhantomConfig(
    lesion_count=(1, 2),
    diameter_mm=(45.0, 150.0),
    median_diameter_mm=85.0,
    diameter_spread=0.4,
    contrast_hu=(15.0, 80.0),
    necrotic_share=0.7,
    limb_share=0.6,
    spacing_mm=(1.2, 2.0),
    slice_mm=(2.0, 4.0),
    in_plane_mm=(200.0, 300.0),
    through_plane_mm=(160.0, 260.0),
)
"""Tumours of 5 to 15 cm, as in limbs, on coarser voxels and in a wider field of view."""
