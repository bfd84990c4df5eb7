"""From scores to a decision: a label where the model is sure enough, else none."""

from __future__ import annotations

from appliance.frame import Decision, Prediction


def decide(prediction: Prediction, *, sure_above: float) -> Decision:
    """Name the best label, or abstain.

    Args:
        prediction: Scores per label.
        sure_above: The best score must be above this, 0 to 1.
    """
    label, confidence = max(prediction.scores.items(), key=lambda item: item[1])
    return Decision(label if confidence > sure_above else None, confidence, prediction)
