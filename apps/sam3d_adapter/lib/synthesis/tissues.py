"""What a label's name means: its tissue, the kind of object it is, and the larger structures it belongs to."""

import re
from dataclasses import dataclass
from functools import cache

KINDS = ("organ", "bone", "vessel", "muscle", "brain", "lesion")
"""Kinds of objects; each kind present in a volume is drawn equally often."""
UNSEEN = r"hippocampus"
"""Organ on which learning from new labels is measured: no weights that ship may have seen it as an object."""

_SIDES = (
    (r"(?<![a-z])(left|lt|l)(?![a-z])", "left"),
    (r"(?<![a-z])(right|rt|r)(?![a-z])", "right"),
)

# First match counts: (pattern of the name without its side, tissue, kind or None for what is no object).
_TISSUES: tuple[tuple[str, str, str | None], ...] = (
    (r"lesion", "lesion", "lesion"),
    (r"extra cerebral class 506", "eye", "organ"),
    (r"extra cerebral class 507", "scalp", None),
    (r"extra cerebral class 509", "mucosa", None),
    (r"extra cerebral class 511", "skin", None),
    (r"extra cerebral class 512", "cord", "brain"),
    (r"extra cerebral class 515", "cortical bone", None),
    (r"extra cerebral class 516", "marrow", None),
    (r"extra cerebral class", "vein", None),
    (r"internal tissue", "white matter", None),
    (r"cerebell.*cortex", "cerebellar cortex", "brain"),
    (r"cerebell.*wm", "white matter", "brain"),
    (r"cerebral wm", "white matter", "brain"),
    (r"cerebral cortex", "grey matter", "brain"),
    (r"ventricle", "csf", "brain"),
    (r"csf", "csf", None),
    (r"thalamus|ventral dc", "thalamus", "brain"),
    (r"caudate|putamen|accumbens", "striatum", "brain"),
    (r"pallidum", "pallidum", "brain"),
    (r"hippocampus|amygdala", "hippocampus", "brain"),
    (r"brainstem", "brainstem", "brain"),
    (r"brain", "brain", "brain"),
    (r"optic|nerve|chiasm", "nerve", "brain"),
    (r"spinal cord", "cord", "brain"),
    (r"spinal canal", "csf", "brain"),
    (r"orbit|eye", "eye", "organ"),
    (r"lens", "lens", "organ"),
    (r"cochlea", "csf", "organ"),
    (r"parotid|submandibular|lacrimal", "salivary gland", "organ"),
    (r"costal cartilage", "costal cartilage", "bone"),
    (r"cartilage", "cartilage", "bone"),
    (r"menisc|ligament", "ligament", "bone"),
    (r"muscle|gluteus|autochthon|iliopsoas", "muscle", "muscle"),
    (r"skull", "skull", "bone"),
    (r"mandible|clavic|rib|sternum|scapula|patella|phalanges", "bone", "bone"),
    (r"vertebra|sacrum|hip|femur|humerus|tibia|fibula|bone", "bone", "bone"),
    (r"disc", "disc", None),
    (r"pulmonary vein|pulmonary artery|atrial appendage", "pulmonary vessel", "vessel"),
    (r"portal", "portal vein", "vessel"),
    (r"superior vena cava|brachiocephalic vein", "upper vein", "vessel"),
    (r"vena|vein|postcava", "vein", "vessel"),
    (r"aorta|artery|trunk", "artery", "vessel"),
    (r"vessel", "vein", "vessel"),
    (r"heart", "heart", "organ"),
    (r"lung", "lung", "organ"),
    (r"trachea|airway", "airway", "organ"),
    (r"o?esophagus", "bowel", "organ"),
    (r"stomach", "bowel", "organ"),
    (r"colon", "colon", "organ"),
    (r"bowel|duodenum", "bowel", "organ"),
    (r"liver", "liver", "organ"),
    (r"spleen", "spleen", "organ"),
    (r"kidney", "kidney", "organ"),
    (r"pancreas", "pancreas", "organ"),
    (r"adrenal", "adrenal gland", "organ"),
    (r"gall ?bladder", "gallbladder", "organ"),
    (r"bladder", "bladder", "organ"),
    (r"prostate|uterus", "prostate", "organ"),
    (r"thyroid", "thyroid", "organ"),
)

# Larger structures: (pattern of the name without its side, structure, whether left and right are two).
_UNIONS: tuple[tuple[str, str, bool], ...] = (
    (r"lung", "lung", True),
    (r"heart|atrial appendage", "heart", False),
    (r"aorta|iliac artery|subclavian artery|carotid|brachiocephalic trunk", "arteries", False),
    (r"inferior vena cava|iliac vena", "lower veins", False),
    (r"superior vena cava|brachiocephalic vein", "upper veins", False),
    (r"small bowel|duodenum", "small intestine", False),
    (r"(stomach|esophagus)", "upper digestive tract", False),
    (r"^ribs? |^rib$|costal|sternum", "rib cage", False),
    (r"gluteus|muscle gluteus", "gluteal muscles", True),
    (r"rectusfemoris|vastus", "quadriceps", True),
    (r"bicepsfemoris|semimembr|semitend", "hamstrings", True),
    (r"adductor", "adductors", True),
    (r"gastrocnemius|soleus", "triceps surae", True),
    (r"tibia", "tibia", True),
    (r"femur|femoral", "femur", True),
    (r"cerebral (wm|cortex)|thalamus|caudate|putamen|pallidum|hippocampus|amygdala|accumbens", "hemisphere", True),
    (r"cerebell", "cerebellum", False),
    (r"cerebell", "cerebellar hemisphere", True),
    (r"ventricle", "ventricles", False),
    (r"lat(eral)? ventricle", "lateral ventricle", True),
    (r"putamen|pallidum", "lentiform nucleus", True),
    (r"caudate|putamen|accumbens", "striatum", True),
    (
        r"cerebr|cerebell|thalamus|caudate|putamen|pallidum|hippocampus|amygdala|accumbens|brainstem|ventral dc"
        r"|ventricle|internal tissue|^brain",
        "brain",
        False,
    ),
    (r"orbit|lens", "eye", True),
    (r"spinal (canal|cord)", "spinal canal", False),
)


@dataclass(frozen=True)
class Part:
    """One structure of a label map.

    Attributes:
        name: As the map's manifest says it; empty for what fills the body between the labels.
        tissue: Which row of the tables of intensities counts.
        kind: One of `KINDS`; None for what is no object.
        unions: Larger structures it is a part of.
        host: For a lesion: index of the part it lies in; otherwise -1.
        is_object: Whether it is an object by itself, and not only within larger structures.
    """

    name: str
    tissue: str
    kind: str | None = None
    unions: tuple[str, ...] = ()
    host: int = -1
    is_object: bool = True


def split_side(name: str) -> tuple[str, str]:
    """The name in lower case without its side, and the side: ``left``, ``right`` or empty."""
    name = re.sub(r"[_-]", " ", name.lower())
    for pattern, side in _SIDES:
        rest, count = re.subn(pattern, " ", name)
        if count:
            return " ".join(rest.split()), side
    return " ".join(name.split()), ""


@cache
def part_of(name: str) -> Part:
    """Tissue, kind and larger structures of a label's name; a name that no rule knows is an organ of soft tissue."""
    base, side = split_side(name)
    tissue, kind = next(
        ((tissue, kind) for pattern, tissue, kind in _TISSUES if re.search(pattern, base)), ("soft tissue", "organ")
    )
    unions = tuple(
        f"{side} {union}" if sided else union for pattern, union, sided in _UNIONS if re.search(pattern, base)
    )
    return Part(name, tissue, kind, unions, is_object=not re.search(UNSEEN, base))
