"""The families of networks that can be served, behind one contract; a preset names one of them."""

from lib.segmenters.click_unet import ClickUnetFamily
from lib.segmenters.family import Family
from lib.segmenters.sam3d_adapter import Sam3dFamily

FAMILIES: dict[str, Family] = {family.name: family for family in (Sam3dFamily(), ClickUnetFamily())}
"""By the name that presets use."""

DEFAULT_FAMILY = Sam3dFamily.name
