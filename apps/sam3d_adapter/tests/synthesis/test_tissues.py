"""Names of labels in the styles of several data sets."""

import pytest

from lib.synthesis.tissues import part_of, split_side


@pytest.mark.parametrize(
    ("name", "base", "side"),
    [
        ("kidney_left", "kidney", "left"),
        ("rib_right_8", "rib 8", "right"),
        ("L cerebral WM", "cerebral wm", "left"),
        ("Orbit-Rt", "orbit", "right"),
        ("Left_Muscle_RectusFemoris", "muscle rectusfemoris", "left"),
        ("liver", "liver", ""),
        ("lateral tibial cartilage", "lateral tibial cartilage", ""),
    ],
)
def test_side_is_split_off(name: str, base: str, side: str) -> None:
    assert split_side(name) == (base, side)


@pytest.mark.parametrize(
    ("name", "tissue", "kind"),
    [
        ("right kidney", "kidney", "organ"),
        ("gallbladder", "gallbladder", "organ"),
        ("urinary_bladder", "bladder", "organ"),
        ("gluteus_maximus_left", "muscle", "muscle"),
        ("portal_vein_and_splenic_vein", "portal vein", "vessel"),
        ("iliac_vena_left", "vein", "vessel"),
        ("brachiocephalic_trunk", "artery", "vessel"),
        ("costal_cartilages", "costal cartilage", "bone"),
        ("Left_Bone_Tibia", "bone", "bone"),
        ("R cerebellum cortex", "cerebellar cortex", "brain"),
        ("CSF", "csf", None),
        ("Spinal-Cord", "cord", "brain"),
        ("something new", "soft tissue", "organ"),
    ],
)
def test_names_mean_a_tissue_and_a_kind(name: str, tissue: str, kind: str | None) -> None:
    part = part_of(name)
    assert (part.tissue, part.kind) == (tissue, kind)


def test_lobes_of_one_side_are_one_lung() -> None:
    left = {part_of(f"lung_{lobe}_lobe_left").unions for lobe in ("upper", "lower")}
    assert left == {("left lung",)}
    assert part_of("lung_middle_lobe_right").unions == ("right lung",)
