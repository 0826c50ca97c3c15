"""Next Sample by chance among the cases in which the model finds a structure: what methods hardly ever beat."""

from collections.abc import Collection, Hashable, Sequence

from lib.activelearning.by_score import ByScore, Scores
from lib.activelearning.first_clicks import found_clicks, unclicked
from lib.activelearning.next_case import Pool
from lib.workflow.served import FALLBACK, STRATEGY

_ANY = "the model has found no labelled structure in any case, so any case is drawn"


class Foreground(ByScore):
    """Draws a case in which the model finds a structure that was labelled before, each with the same chance.

    Other cases come after those; where there are only such, any one is drawn, and the log says so.
    """

    name = "foreground"
    what = "Case without a label in which the model finds a structure, drawn at random"

    def choose(self, pool: Pool) -> tuple[str, str]:
        """As `NextCase.choose`."""
        found = {image for clicks in found_clicks(self.scores(pool)).values() for image in clicks}
        rest = [image for image in pool.images if image in found]
        self.tell("" if rest else _ANY)
        return pool.draw.choice(rest or pool.images), STRATEGY if rest else FALLBACK

    def unscored(self, scores: Scores, images: Sequence[str], unlabelled: Sequence[str]) -> Collection[Hashable]:
        """As `ByScore.unscored`."""
        return unclicked(scores, images, unlabelled)
