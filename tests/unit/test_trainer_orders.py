"""What the server asks for is checked before a camera works on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, RecordDict

from appliance.errors import NightError
from tests.fakes import parts
from trainer.head import Recipe
from trainer.orders import head_of, recipe_of, round_of

GOOD: dict[str, Any] = {"round": 2, "rounds": 3, "epochs": 30, "rate": 0.003, "smoothing": 0.1, "proximal": 0.01}


def test_a_good_recipe_is_taken() -> None:
    assert recipe_of(GOOD) == Recipe(epochs=30, rate=0.003, smoothing=0.1, seed=2, proximal=0.01)
    assert round_of(GOOD) == (2, 3)


def test_a_server_that_knows_no_fedprox_asks_for_none() -> None:
    assert recipe_of({name: value for name, value in GOOD.items() if name != "proximal"}).proximal == 0


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("epochs", [None, 0, -1, 1001, 30.0, "30", True], "a whole number from 1 to 1000"),
        ("rate", [None, 0, 1, -0.1, 5.0, float("nan"), float("inf"), "0.1", True], "a number from 0 to 1"),
        ("smoothing", [None, 1.0, -0.1, float("nan")], "a number from 0 to 1"),
        ("proximal", [-0.1, 1001.0, float("nan"), float("inf")], "a number from 0 to 1000"),
        ("round", [None, 0, 1001, 1.0], "a whole number from 1 to 1000"),
    ],
)
def test_a_recipe_that_a_camera_does_not_let_itself_be_asked_for_is_refused(
    name: str, values: list[Any], wanted: str
) -> None:
    for value in values:
        with pytest.raises(NightError, match=f"The server asks for {name} .*, not {wanted}"):
            recipe_of({**GOOD, name: value})


def test_a_round_without_its_number_is_refused() -> None:
    with pytest.raises(NightError, match="The server asks for rounds None"):
        round_of({"round": 1})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_head_that_is_not_finite_is_refused(value: float) -> None:
    arrays = [np.full((8, 3), value, np.float32), np.zeros(3, np.float32)]
    with pytest.raises(NightError, match="The server's head can't be used"):
        head_of(parts.tiny_manifest(b"b", b"h"), RecordDict({"arrays": ArrayRecord(arrays)}))


def test_a_head_of_other_numbers_than_float32_is_refused() -> None:
    arrays = [np.zeros((8, 3)), np.zeros(3)]
    with pytest.raises(NightError, match="The server's head can't be used"):
        head_of(parts.tiny_manifest(b"b", b"h"), RecordDict({"arrays": ArrayRecord(arrays)}))
