"""The families of networks that can be served, behind one contract; a preset names one of them."""

from lib.families.click_unet import ClickUnetFamily
from lib.families.family import Family
from lib.families.sam3d import Sam3dFamily

FAMILIES: dict[str, Family] = {family.name: family for family in (Sam3dFamily(), ClickUnetFamily())}
"""By the name that presets use."""

DEFAULT_FAMILY = Sam3dFamily.name
