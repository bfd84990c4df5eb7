"""Any Edge Impulse image classification .eim, old or new, runs here through the SDK, and earns its place like ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim.cell import Cell, cell_state
from appliance.eim.label_map import LabelMap, map_path
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.errors import ImpulseError, NotAnImpulseError
from appliance.frame import Pixels
from appliance.live import LiveLoop
from appliance.models.foreign import add, look_at, map_labels
from appliance.models.manifest import FIRST_LOCAL, Manifest
from appliance.models.shelf import Shelf
from appliance.staging import stage
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from tests.fakes.eim_traces import Traces, runs, segments_of
from tests.fakes.fleet import TinyFleet
from tests.fakes.foreign_eim import BROKEN, REFUSED, SHAPES, Shape, write_foreign
from tests.fakes.live_parts import ClickCamera
from tests.fakes.parts import LABELS


def start(path: Path) -> RunningImpulse:
    return start_impulse(path, start_deadline_s=60, reply_deadline_s=60)


def painted(shape: Shape, *colour: int) -> Pixels:
    return np.full((shape.height, shape.width, 3), colour, np.uint8)


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


@pytest.fixture(scope="module")
def eim(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp("foreign") / "theirs.eim", shape)


@pytest.fixture(scope="module", params=["plainly", "in a cell"])
def running(
    request: pytest.FixtureRequest, eim: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningImpulse]:
    cell = Cell((tmp_path_factory.getbasetemp(),)) if request.param == "in a cell" else None
    if cell and not cell_state().works:
        pytest.skip(cell_state().why)
    with start_impulse(eim, start_deadline_s=60, reply_deadline_s=60, cell=cell) as impulse:
        yield impulse


def test_it_says_what_it_wants(running: RunningImpulse, shape: Shape) -> None:
    info = running.info
    mode = shape.mode if shape.mode in ("fit-shortest", "fit-longest") else "squash"
    assert (info.name, info.version, info.labels) == ("helmets", 3, shape.labels)
    assert (info.input.width, info.input.height, info.input.resize_mode) == (shape.width, shape.height, mode)
    assert info.has_shared_memory is shape.shared_memory
    assert not info.has_lane


def test_every_pixel_reaches_it_as_it_is(running: RunningImpulse, shape: Shape) -> None:
    answer = running.classify(painted(shape, 30, 60, 10))
    assert tuple(answer.scores) == shape.labels
    shares = [0.3, 0.6, 0.1, 0, 0] if shape.channels == 3 else [45 / 255, 210 / 255]
    assert list(answer.scores.values()) == pytest.approx(shares[: len(shape.labels)], abs=1 / 256)
    assert answer.features is None
    assert running.depth == 1


def test_it_answers_in_our_labels_where_a_map_lies_beside_it(eim: Path, shape: Shape) -> None:
    theirs = map_labels(shape.labels, LABELS, {"background": "", "vest": "hardhat"} if "vest" in shape.labels else {})
    path = write_foreign(eim.with_name("mapped.eim"), shape)
    map_path(path).write_bytes(LabelMap("helmets", FIRST_LOCAL, LABELS, theirs).to_bytes())
    with start(path) as impulse:
        assert (impulse.info.labels, impulse.info.version) == (LABELS, FIRST_LOCAL)
        told = impulse.classify(painted(shape, 255, 0, 0)).scores
    first = theirs[shape.labels[0]]
    assert tuple(told) == LABELS
    assert told[first] == pytest.approx(1 if shape.channels == 3 else 76 / 255, abs=1 / 256)


def test_closing_leaves_nothing(eim: Path, shape: Shape) -> None:
    before = Traces.now()
    impulse = start(eim)
    pid, segments = impulse.pid, segments_of(impulse.pid)
    assert len(segments) == shape.shared_memory
    impulse.close()
    assert not runs(pid)
    assert not any(segment.exists() for segment in segments)
    assert not Traces.now().beyond(before)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_answers_other_questions_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    given, says = REFUSED[kind]
    with pytest.raises(NotAnImpulseError, match=says) as caught:
        look_at(write_foreign(tmp_path / "theirs.eim", given), start)
    assert "image classification" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.eim"]


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_found_out_before_anything_is_written(kind: str, tmp_path: Path) -> None:
    before = Traces.now()
    with pytest.raises(ImpulseError):
        look_at(write_foreign(tmp_path / "theirs.eim", BROKEN[kind]), start)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.eim"]
    assert not Traces.now().beyond(before)


# The whole way: shelf, probe, judge, soak; and a night after it.


@pytest.fixture
def fleet(tmp_path: Path, tiny_backbone: bytes) -> TinyFleet:
    return TinyFleet(tmp_path, tiny_backbone)


@pytest.fixture
def shelf(fleet: TinyFleet, tmp_path: Path) -> Shelf:
    made = fleet.shelf(tmp_path / "models", 1)
    made.note_factory(1)
    stage(made, made.manifest(1), threads=1)
    return made


@pytest.fixture
def swapper(shelf: Shelf, tmp_path: Path) -> Iterator[Swapper]:
    loop = LiveLoop(Starter(shelf, start, threads=1), decide=Decider(0.6))
    capture = Capture(ClickCamera(every_s=0.01), loop.take, timeout_s=60, rate_fps=100)
    loop.start()
    capture.start()
    canary = Canary(tmp_path / "store", shelf, start, margin=0.05)
    yield Swapper(shelf, loop, start, canary, threads=1, rules=SwapRules(10, soak_deadline_s=60, slower_by=1000))
    capture.stop()
    loop.stop()


def added(shelf: Shelf, tmp_path: Path, given: Shape) -> Manifest:
    found = look_at(write_foreign(tmp_path / "theirs.eim", given), start)
    theirs = map_labels(found.info.labels, LABELS, {"background": "", "vest": ""} if "vest" in given.labels else {})
    return add(shelf, tmp_path / "keys" / "k", found, labels=LABELS, theirs=theirs, name="", fleet="test fleet")


@pytest.mark.parametrize("kind", ["2022-grey-int8", "2023-more-labels", "2025-fit-longest"])
def test_it_goes_the_way_of_every_version_and_a_night_takes_over_again(
    kind: str, shelf: Shelf, swapper: Swapper, fleet: TinyFleet, tmp_path: Path
) -> None:
    local = added(shelf, tmp_path, SHAPES[kind]).version
    verdict = swapper.swap(local)
    assert verdict.accepted, verdict.reason
    assert "every probe" in verdict.reason
    assert "the word of whoever added it counts" in verdict.reason
    assert (shelf.current, shelf.previous, shelf.fleet_version, shelf.highest) == (local, 1, 1, 1)
    with_fresh_start = Starter(shelf, start, threads=1)()
    assert (with_fresh_start.version, with_fresh_start.impulse.info.labels) == (local, LABELS)
    with_fresh_start.impulse.close()

    shelf.accept(*fleet.version(2))
    assert shelf.may_be_offered(2)
    night = swapper.swap(2)
    assert night.accepted, night.reason
    assert (shelf.current, shelf.previous, shelf.fleet_version) == (2, local, 2)


def test_one_that_fails_in_live_work_is_quarantined_and_the_old_one_runs(
    shelf: Shelf, swapper: Swapper, tmp_path: Path
) -> None:
    local = added(shelf, tmp_path, Shape(fault="refuses@18")).version  # twelve golden pictures, then a few live ones
    verdict = swapper.swap(local)
    assert not verdict.accepted
    assert "in live work" in verdict.reason
    assert (shelf.current, shelf.is_quarantined(local)) == (1, True)
