"""From scores to a decision: a label where the model may be believed, else none, and why.

The best of several scores is not yet an answer: a model that has only ever seen people gives an empty yard to one
of them. So a label is said only where its score is above the threshold of that label, and only about frames that
resemble something this camera was taught.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.familiarity import Familiarity
from appliance.frame import Decision, Doubt, Prediction

logger = logging.getLogger(__name__)

_VERSIONS_KEPT = 4  # the one that runs, the one before it, and one on trial, with one to spare


@dataclass(frozen=True, eq=False)
class Rules:
    """When a model version may be believed.

    Attributes:
        sure_above: The score that any label must exceed, 0 to 1.
        thresholds: The same by label, where this camera's own frames ask for more.
        familiarity: What this camera was taught; None where there is too little of it, or nobody wants the rule.
        sentences: For people: what these rules rest on.
    """

    sure_above: float
    thresholds: Mapping[str, float] = field(default_factory=dict)
    familiarity: Familiarity | None = None
    sentences: tuple[str, ...] = ()

    def threshold(self, label: str) -> float:
        """The score that a label must exceed, 0 to 1."""
        return max(self.sure_above, self.thresholds.get(label, 0.0))


def decide(prediction: Prediction, rules: Rules) -> Decision:
    """Name the best label, or abstain and say why.

    Args:
        prediction: Scores per label; without features nothing can be said about familiarity, and only the score
            counts.
        rules: Those of the version that predicted.
    """
    label, confidence = max(prediction.scores.items(), key=lambda item: item[1])
    familiarity, unfamiliar = None, False
    if rules.familiarity is not None and prediction.features is not None:
        familiarity = rules.familiarity.of(prediction.features)
        unfamiliar = not familiarity >= rules.familiarity.threshold  # so that NaN is unfamiliar
    doubt = Doubt.UNFAMILIAR if unfamiliar else Doubt.NONE
    if not confidence > rules.threshold(label):
        doubt = Doubt.LOW_SCORE
    return Decision(None if doubt else label, confidence, prediction, doubt, familiarity)


class Decider:
    """Judges each prediction by the rules of the version that made it. Safe for several threads.

    Args:
        sure_above: Holds for a version whose rules haven't been told yet.
    """

    def __init__(self, sure_above: float) -> None:
        self._plain = Rules(sure_above, sentences=("The score alone decides until this version's rules are ready.",))
        self._lock = threading.Lock()  # between those who bring rules; the loop reads without waiting
        self._rules: Mapping[int, Rules] = {}

    def __call__(self, prediction: Prediction) -> Decision:
        """Decide; see :func:`decide`."""
        return decide(prediction, self.rules(prediction.version))

    def use(self, version: int, rules: Rules) -> None:
        """Judge a version by these rules from its next prediction on; other versions keep theirs."""
        if rules.sentences != self.rules(version).sentences:  # a fit after every new label need not say the same again
            for sentence in rules.sentences:
                logger.info("Version %d: %s", version, sentence)
        with self._lock:
            told = OrderedDict(self._rules)
            told[version] = rules
            told.move_to_end(version)
            while len(told) > _VERSIONS_KEPT:
                told.popitem(last=False)
            self._rules = told  # replaced whole: a reader has the old ones or the new, nothing between

    def rules(self, version: int) -> Rules:
        """The rules of a version; the plain score threshold where none were told."""
        return self._rules.get(version, self._plain)
