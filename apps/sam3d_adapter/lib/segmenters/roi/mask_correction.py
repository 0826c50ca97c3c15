"""What of the network's answer to clicks is taken over into a mask that the user started from."""

from scipy.ndimage import label

from lib.geometry.click_influence import Floats
from lib.prompts.click import Click
from lib.prompts.mask_prompt import StartMask
from lib.segmenters.roi.correction import Obeyed, Spot

START_LEAST_MM = 5.0
"""How far a click corrects a mask of the user at least, mm."""
_LEAST = 0.5
"""Logit by which a voxel that nothing but a click speaks for is put on its side."""


def contradicting(spot: Spot, start: StartMask, untouched: Floats) -> list[Click]:
    """The new clicks in the ROI that ask for something: not those that the mask agrees with.

    Args:
        spot: where.
        start: the mask.
        untouched: (D, H, W), its logit before any click.
    """
    asking = []
    for click in spot.new:
        if not spot.roi.holds(click) or not spot.support[spot.voxel(click)]:
            continue
        now, then = (float(logit[spot.voxel(click)]) for logit in (spot.before, untouched))
        # Where nothing has changed the image's own grid is exact.
        says = bool(start.mask[click.ijk]) if now == then else now > spot.level
        if says != click.is_foreground:
            asking.append(click)
    return asking


def correct_start(spot: Spot, asking: list[Click], asked: Floats | None) -> tuple[Floats, Obeyed]:
    """The logit of an ROI with what clicks ask for, and nothing else.

    A foreground click adds, a background click takes away: the voxels around it that the answer, in which all clicks
    are enforced, changes so, connected with it, no farther than `Spot.meant` says. Without an answer, its own voxel.

    Args:
        spot: where.
        asking: see `contradicting`.
        asked: (D, H, W) the network's answer; None where it was not asked.
    """
    now, mask = spot.before.copy(), spot.before > spot.level
    answer, obeyed = (asked, ()) if asked is None else spot.enforced(asked)
    for click in asking:
        voxel, sign = spot.voxel(click), click.is_foreground
        if answer is not None:
            wanted = ((answer > spot.level) == sign) & (mask != sign) & spot.support
            wanted &= spot.meant([click], START_LEAST_MM)
            wanted[voxel] = True
            pieces, _ = label(wanted)
            piece = pieces == pieces[voxel]
            now[piece] = answer[piece]
        side = 1 if sign else -1
        now[voxel] = spot.level + side * max(side * (float(now[voxel]) - spot.level), _LEAST)
    return now, obeyed if asked is not None else tuple((click, False) for click in asking)
