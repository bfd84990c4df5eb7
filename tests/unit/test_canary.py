from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from appliance import canary
from appliance.canary import Canary
from appliance.eim.runner import Answer, Impulse, ImpulseInfo
from appliance.errors import ImpulseExitedError, ImpulseSilentError, SwapError
from appliance.frame import Pixels
from appliance.models.head import Head
from appliance.models.shelf import Shelf
from appliance.store.frames import FrameStore, NewFrame, Split
from appliance.vision import InputSpec
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ScriptedImpulse
from tests.fakes.parts import FEATURES, INPUT, LABELS, SIDE
from tests.fakes.pictures import encoded, scene


def features_of(picture: Pixels) -> npt.NDArray[np.float32]:
    """What a backbone might make of it: any fixed numbers will do."""
    return np.asarray(picture.reshape(FEATURES, -1).mean(axis=1) / 255, np.float32)


class Model(ScriptedImpulse):
    """A version whose backbone is ``features_of``; without features, as Edge Impulse's own, where told so."""

    def __init__(self, version: int, head: Head, *, tells_features: bool = True) -> None:
        super().__init__(version)
        self.info = ImpulseInfo("x", version, LABELS, INPUT, has_shared_memory=True)
        self._head = head
        self._tells = tells_features
        self.seen: list[bytes] = []

    def classify(self, image: Pixels) -> Answer:
        super().classify(image)
        self.seen.append(image.tobytes())
        features = features_of(image)
        scores = self._head.scores(features[None])[0]
        return Answer(dict(zip(LABELS, map(float, scores), strict=True)), 1.0, features if self._tells else None)


class Bench:
    """A store of test frames that version 1 names right, and both versions."""

    def __init__(self, root: Path, backbone: bytes, **changes: object) -> None:
        self.root = root
        fleet = TinyFleet(root, backbone)
        self.shelf: Shelf = fleet.shelf(root / "models", 1)
        self.shelf.accept(*fleet.version(2, **changes))
        self.heads = {
            version: Head.from_bytes(self.shelf.part(self.shelf.manifest(version).parts["head"])) for version in (1, 2)
        }
        self.started: list[Path] = []
        self.running: Callable[[], Impulse] = lambda: Model(1, self.heads[1])
        self.canary = Canary(root / "store", self.shelf, self._start, margin=0.05)

    def _start(self, path: Path) -> Impulse:
        self.started.append(path)
        return self.running()

    def add(self, count: int, *, split: Split = "test", label: str | None = None) -> None:
        """Frames with the label that version 1 gives them, or that one."""
        model = Model(1, self.heads[1])
        with FrameStore(self.root / "store") as store:
            for number in range(count):
                jpeg = encoded(scene(number + 1000 * (split == "train"), width=32, height=32), quality=95)
                new = NewFrame(jpeg, datetime.now(UTC), "live", "head", "test", split)
                frame = store.add_all([new])[0].frame
                scores = model.classify(store.pixels(frame.id)).scores
                store.label(frame.id, label or max(scores, key=lambda each: scores[each]), by="test")


@pytest.fixture
def bench(tmp_path: Path, tiny_backbone: bytes) -> Bench:
    return Bench(tmp_path, tiny_backbone)


def wrong(bench: Bench) -> Model:
    """A version 2 that never says what version 1 says."""
    flipped = [-np.asarray(array) for array in bench.heads[1].arrays]
    return Model(2, Head.from_arrays(flipped))


def test_without_a_store_or_without_test_frames_the_server_s_verdict_counts(bench: Bench) -> None:
    impulse = Model(2, bench.heads[2])
    assert "server's verdict" in bench.canary.judge(impulse, 2, 1).sentence
    bench.add(4, split="train")
    assert "server's verdict" in bench.canary.judge(impulse, 2, 1).sentence
    assert impulse.asked == 0


def test_the_same_answers_on_enough_frames_are_not_worse_and_only_the_head_is_asked(bench: Bench) -> None:
    bench.add(60)
    judgement = bench.canary.judge(Model(2, bench.heads[1]), 2, 1)
    assert judgement.outcome == "not worse"
    assert "60 of 60 own test frames right, 60 before" in judgement.sentence
    assert bench.started == []  # the running .eim is busy, and its head on the same features says the same


def test_a_worse_version_is_kept_out_with_the_numbers(bench: Bench) -> None:
    bench.add(20)
    with pytest.raises(SwapError, match="0 of 20 right, 20 before") as caught:
        bench.canary.judge(wrong(bench), 2, 1)
    assert "Version 1 stays" in str(caught.value)


def test_frames_of_labels_that_the_fleet_does_not_know_do_not_count(bench: Bench) -> None:
    bench.add(10, label="dog")
    impulse = Model(2, bench.heads[2])
    assert bench.canary.judge(impulse, 2, 1).outcome == "not enough frames"
    assert impulse.asked == 0


def test_where_features_do_not_fit_the_running_version_s_own_eim_is_asked_and_closed(
    tmp_path: Path, tiny_backbone: bytes
) -> None:
    bench = Bench(tmp_path, tiny_backbone, input=InputSpec(SIDE, SIDE, "squash"))
    bench.add(20)
    running = Model(1, bench.heads[1])
    bench.running = lambda: running
    with pytest.raises(SwapError, match="20 before"):
        bench.canary.judge(wrong(bench), 2, 1)
    assert bench.started == [bench.shelf.impulse_path(1)]
    assert (running.asked, running.closed) == (20, True)


def test_where_the_new_version_tells_no_features_the_running_eim_is_asked(bench: Bench) -> None:
    bench.add(8)
    judgement = bench.canary.judge(Model(2, bench.heads[1], tells_features=False), 2, 1)
    assert "8 of 8 own test frames right, 8 before" in judgement.sentence
    assert len(bench.started) == 1


def test_what_is_wrong_with_the_running_version_is_not_held_against_the_new_one(bench: Bench) -> None:
    bench.add(8)

    def broken(_: int) -> None:
        raise ImpulseExitedError("it crashed")

    old = ScriptedImpulse(1, broken)
    bench.running = lambda: old
    judgement = bench.canary.judge(Model(2, bench.heads[2], tells_features=False), 2, 1)
    assert judgement.outcome == "not enough frames"
    assert "Version 1 could not be asked (it crashed)" in judgement.sentence
    assert old.closed
    head = bench.shelf.manifest(1).parts["head"]
    (bench.shelf.root / "parts" / head.sha256).write_bytes(b"rubbish")
    assert "Version 1 could not be asked" in bench.canary.judge(Model(2, bench.heads[2]), 2, 1).sentence


def test_a_new_version_that_fails_while_it_is_judged_says_so_itself(bench: Bench) -> None:
    bench.add(8)

    def silent(asked: int) -> None:
        if asked == 5:
            raise ImpulseSilentError("no answer")

    with pytest.raises(ImpulseSilentError):
        bench.canary.judge(ScriptedImpulse(2, silent), 2, 1)


def test_a_damaged_store_leaves_the_judgement_to_the_server(bench: Bench) -> None:
    bench.add(8)
    (bench.root / "store" / "frames.sqlite").write_bytes(b"not a database" * 500)
    for leftover in ("frames.sqlite-wal", "frames.sqlite-shm"):
        (bench.root / "store" / leftover).unlink(missing_ok=True)
    judgement = bench.canary.judge(Model(2, bench.heads[2]), 2, 1)
    assert judgement.outcome == "not enough frames"
    assert "can't be read" in judgement.sentence


def test_a_frame_that_is_gone_or_damaged_leaves_the_others_to_judge(bench: Bench) -> None:
    bench.add(8)
    first, second, *_ = sorted((bench.root / "store" / "frames").rglob("*.jpg"))
    first.unlink()
    second.write_bytes(b"\xff\xd8\xff half a pict")
    judgement = bench.canary.judge(Model(2, bench.heads[1]), 2, 1)
    assert "6 of 6 own test frames right, 6 before" in judgement.sentence


def test_of_too_many_frames_a_fixed_choice_judges(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "MOST_FRAMES", 5)
    bench.add(12)
    first, second = Model(2, bench.heads[1]), Model(2, bench.heads[1])
    for impulse in (first, second):
        assert "5 of 5" in bench.canary.judge(impulse, 2, 1).sentence
    assert first.seen == second.seen
    assert len(first.seen) == 5
