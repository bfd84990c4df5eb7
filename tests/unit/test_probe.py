import math

import pytest

from appliance.eim.runner import Answer, ImpulseInfo
from appliance.errors import ImpulseGarbledError, SwapError
from appliance.frame import Pixels
from appliance.models.manifest import Manifest
from appliance.probe import QUESTIONS, probe
from appliance.vision import InputSpec
from tests.fakes.live_parts import ScriptedImpulse
from tests.fakes.parts import INPUT, LABELS, tiny_head, tiny_manifest


@pytest.fixture
def manifest() -> Manifest:
    return tiny_manifest(b"no backbone is needed", tiny_head().to_bytes(), version=2)


class Timed(ScriptedImpulse):
    """Says of every answer how long it took."""

    def __init__(self, *times_ms: float) -> None:
        super().__init__(2)
        self._times_ms = times_ms
        self.pictures: list[bytes] = []

    def classify(self, image: Pixels) -> Answer:
        self.pictures.append(image.tobytes())
        elapsed_ms = self._times_ms[self.asked % len(self._times_ms)]
        return Answer(super().classify(image).scores, elapsed_ms)


def test_a_good_version_answers_all_golden_pictures_which_are_the_same_every_time(manifest: Manifest) -> None:
    first, second = Timed(5), Timed(5)
    for impulse in (first, second):
        probe(impulse, manifest, longest_ms=10)
    assert first.pictures == second.pictures
    assert len(set(first.pictures)) == QUESTIONS
    assert first.pictures[0] == bytes(32 * 32 * 3)


@pytest.mark.parametrize(
    ("version", "labels", "spec", "says"),
    [
        (3, LABELS, INPUT, "says it is version 3 with"),
        (2, LABELS[::-1], INPUT, "nobody, hardhat, head"),
        (2, (*LABELS, "dog"), INPUT, "nobody, dog"),
        (2, LABELS, InputSpec(64, 32, "fit-shortest"), "64 x 32"),
        (2, LABELS, InputSpec(32, 32, "squash"), "squash"),
    ],
)
def test_what_says_it_is_something_else_is_named_and_not_asked(
    manifest: Manifest, version: int, labels: tuple[str, ...], spec: InputSpec, says: str
) -> None:
    impulse = ScriptedImpulse(version)
    impulse.info = ImpulseInfo("x", version, labels, spec, has_shared_memory=True)
    with pytest.raises(SwapError, match=says):
        probe(impulse, manifest, longest_ms=100)
    assert impulse.asked == 0


def test_one_quick_answer_shows_that_the_machine_was_busy(manifest: Manifest) -> None:
    probe(Timed(500, 500, 9, 500), manifest, longest_ms=10)


def test_a_version_that_never_answers_in_time_is_too_slow(manifest: Manifest) -> None:
    with pytest.raises(SwapError, match="needs 40 ms for a picture, more than 10 ms"):
        probe(Timed(40, 90), manifest, longest_ms=10)


def test_whatever_it_raises_comes_through(manifest: Manifest) -> None:
    def answer(asked: int) -> None:
        if asked == QUESTIONS:
            raise ImpulseGarbledError("rubbish")

    with pytest.raises(ImpulseGarbledError):
        probe(ScriptedImpulse(2, answer), manifest, longest_ms=math.inf)
