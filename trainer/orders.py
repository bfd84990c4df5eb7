"""What the server asks for, checked before a camera works on it: its own server too may be wrong, or not its own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from flwr.app import RecordDict

from appliance.errors import NightError, PartError
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from trainer import messages
from trainer.head import Recipe

MOST_ROUNDS = 1000
MOST_EPOCHS = 1000
MOST_PROXIMAL = 1000.0


def check_ground(manifest: Manifest, config: Mapping[str, object]) -> None:
    """Does a question fit this camera's features and labels? Any version of the same backbone and labels does: a
    camera that kept its older head trains with the others.

    Raises:
        NightError: It doesn't.
    """
    if config.get("backbone") != manifest.parts["backbone"].sha256:
        raise NightError(
            f"The server asks about another backbone than that of version {manifest.version}, which runs here",
            means="Features of one backbone say nothing to another's head: this camera sits it out",
            do="It gets the server's version at the end of the night",
        )
    labels = config.get("labels")
    if not isinstance(labels, list | tuple) or list(labels) != list(manifest.labels):
        raise NightError(
            f"The server asks about other labels than {', '.join(manifest.labels)}",
            means="This camera sits it out",
            do="A fleet's labels are fixed once it is made: look at fleet.labels on the server",
        )


def round_of(config: Mapping[str, object]) -> tuple[int, int]:
    """(this round, of so many).

    Raises:
        NightError: They are no round numbers.
    """
    return _whole(config, "round", MOST_ROUNDS), _whole(config, "rounds", MOST_ROUNDS)


def recipe_of(config: Mapping[str, object]) -> Recipe:
    """How to train, within what a camera lets itself be asked for.

    Raises:
        NightError: Some number is missing or out of its range.
    """
    return Recipe(
        epochs=_whole(config, "epochs", MOST_EPOCHS),
        rate=_number(config, "rate", above=0, below=1),
        smoothing=_number(config, "smoothing", least=0, below=1),
        seed=_whole(config, "round", MOST_ROUNDS),
        proximal=_number({"proximal": 0.0, **config}, "proximal", least=0, most=MOST_PROXIMAL),
    )


def head_of(manifest: Manifest, content: RecordDict) -> Head:
    """The head in a message, which must have the shape of the one that runs here.

    Raises:
        NightError: There is none, its numbers are not finite float32, or it has another shape.
    """
    try:
        head = messages.head_of(content)
    except (PartError, ValueError, TypeError) as error:
        raise NightError(f"The server's head can't be used ({error})", means="This camera sits it out") from error
    wanted = (manifest.feature_count, len(manifest.labels), manifest.hidden_units)
    if (head.feature_count, head.label_count, head.hidden_units) != wanted:
        raise NightError(
            f"The server's head is for {head.feature_count} features, {head.label_count} labels and"
            f" {head.hidden_units} hidden units, this camera's for {wanted[0]}, {wanted[1]} and {wanted[2]}",
            means="This camera sits it out",
        )
    return head


def _whole(config: Mapping[str, object], name: str, most: int) -> int:
    value = config.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise _out_of_range(name, value, f"a whole number from 1 to {most}")
    return value


def _number(
    config: Mapping[str, object],
    name: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    value = config.get(name)
    fits = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (above < value < below and least <= value <= most):  # type: ignore[operator]  # fits: a number
        low, high = max(above, least), min(below, most)
        raise _out_of_range(name, value, f"a number from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]  # as above


def _out_of_range(name: str, value: object, wanted: str) -> NightError:
    return NightError(
        f"The server asks for {name} {value!r:.40}, not {wanted}",
        means="This camera sits it out",
        do=f"Correct night.{name} on the server",
    )
