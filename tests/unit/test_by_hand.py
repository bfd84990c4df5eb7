import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest

from appliance import by_hand
from appliance.by_hand import HandOver, ask, camera_lock, do_it, target
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim.runner import Impulse
from appliance.ending import resume
from appliance.errors import ImpulseExitedError, ModelError, SwapError
from appliance.files import write_atomically
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, read_trial, write_trial
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ClickCamera, ScriptedImpulse
from tests.fakes.swap_bench import FullDisk
from tests.fakes.waiting import wait_until


@pytest.fixture
def shelf(tmp_path: Path, tiny_backbone: bytes) -> Shelf:
    """Versions 1 to 3, of which 3 runs; 1 is the factory's."""
    made = TinyFleet(tmp_path, tiny_backbone).shelf(tmp_path / "models", 1, 2, 3)
    made.note_factory(1)
    for version in (2, 3):
        write_verdict(made.root, Verdict(version, True, "It answered", datetime.now(UTC)))
    return made


def verdict_of(shelf: Shelf, version: int) -> Verdict:
    verdict = read_verdict(shelf.root, version)
    assert verdict is not None
    return verdict


# Which version is meant


def test_rollback_means_the_version_before_and_recover_the_factory_s(shelf: Shelf) -> None:
    assert target(shelf, "rollback") == 2
    assert target(shelf, "recover") == 1
    assert target(shelf, "try", 2) == 2


def test_where_there_is_nothing_to_go_back_to_it_says_what_else_there_is(shelf: Shelf) -> None:
    shelf.go_back(1)
    with pytest.raises(ModelError, match=r"no earlier version.*Version 1 stays.*sitecam recover"):
        target(shelf, "rollback")


def test_a_quarantined_version_is_nothing_to_go_back_to(shelf: Shelf) -> None:
    write_verdict(shelf.root, Verdict(2, False, "It was bad", datetime.now(UTC)))
    assert [version for version in shelf.versions() if shelf.is_quarantined(version)] == [2]
    with pytest.raises(ModelError, match="no earlier version"):
        target(shelf, "rollback")


@pytest.mark.parametrize(("version", "says"), [(3, "runs already"), (9, "Versions here: 1, 2, 3")])
def test_what_can_t_be_tried_is_said(shelf: Shelf, version: int, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        target(shelf, "try", version)


def test_a_camera_without_any_version_can_t_recover(tmp_path: Path, tiny_backbone: bytes) -> None:
    empty = Shelf(tmp_path / "models", TinyFleet(tmp_path, tiny_backbone).public_key)
    with pytest.raises(ModelError, match="Enrol this camera again"):
        target(empty, "recover")


# With no camera process about


def test_going_back_puts_the_newer_version_into_quarantine(shelf: Shelf) -> None:
    said = do_it(shelf, "rollback", 0, threads=1)
    assert said == "Version 2 runs from the next start; version 3 is not tried again by itself."
    assert (shelf.current, shelf.previous, read_trial(shelf.root)) == (2, 1, None)
    assert verdict_of(shelf, 3).quarantined
    assert "Somebody went back to version 2" in verdict_of(shelf, 3).reason
    assert verdict_of(shelf, 2).accepted
    do_it(shelf, "rollback", 0, threads=1)
    assert (shelf.current, shelf.previous) == (1, None)


def test_recovering_assembles_the_factory_s_version_afresh(shelf: Shelf) -> None:
    shelf.impulse_path(1).write_bytes(b"rotten")
    assert "Version 1 runs from the next start" in do_it(shelf, "recover", 0, threads=1)
    assert shelf.current == 1
    good = shelf.impulse_path(1).read_bytes()
    shelf.impulse_path(1).write_bytes(b"rotten")
    assert do_it(shelf, "recover", 0, threads=1) == "Version 1 was assembled afresh from its parts."
    assert shelf.impulse_path(1).read_bytes() == good


def test_trying_again_forgets_the_verdict_and_offers_the_version(shelf: Shelf) -> None:
    do_it(shelf, "rollback", 0, threads=1)
    assert "Version 3 will be tried" in do_it(shelf, "try", 3, threads=1)
    assert (read_verdict(shelf.root, 3), shelf.offered, shelf.current) == (None, 3, 2)


def test_an_older_version_is_not_left_to_the_next_start(shelf: Shelf) -> None:
    with pytest.raises(ModelError, match="older than version 3"):
        do_it(shelf, "try", 2, threads=1)
    assert shelf.offered is None
    assert verdict_of(shelf, 2).accepted


def test_a_version_whose_parts_are_damaged_is_not_gone_back_to(shelf: Shelf) -> None:
    head = shelf.manifest(2).parts["head"]
    (shelf.root / "parts" / head.sha256).write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="damaged"):
        do_it(shelf, "rollback", 0, threads=1)
    assert (shelf.current, verdict_of(shelf, 3).accepted, read_trial(shelf.root)) == (3, True, None)


@pytest.mark.parametrize("at", ["trial.json", "3.json", "previous", "current"])
def test_going_back_that_was_cut_off_is_finished_by_the_next_start(shelf: Shelf, at: str) -> None:
    disk = FullDisk(at)
    with disk.mounted(), pytest.raises(OSError, match="No space left"):
        do_it(shelf, "rollback", 0, threads=1)
    if at == "trial.json":  # nothing was changed yet
        assert (shelf.current, shelf.previous, verdict_of(shelf, 3).accepted) == (3, 2, True)
        return
    resume(shelf)
    assert (shelf.current, shelf.previous, read_trial(shelf.root)) == (2, 1, None)
    assert verdict_of(shelf, 3).quarantined
    assert verdict_of(shelf, 2).accepted


def test_the_lock_is_one_process_s_at_a_time_and_goes_with_it(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there" / "yet"
    with camera_lock(root) as mine, camera_lock(root) as again:
        assert (mine, again) == (True, False)
    code = (
        "import sys, time; from pathlib import Path; from appliance.by_hand import camera_lock\n"
        "with camera_lock(Path(sys.argv[1])) as mine: print(mine, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with camera_lock(root) as mine:
            assert not mine
        other.kill()
        other.wait()
    with camera_lock(root) as mine:
        assert mine


# In a camera process


class Camera:
    """A loop on the shelf's current version, a swapper, and a hand-over to it."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.broken: set[int] = set()
        self.slow_s = 0.0
        self.loop = LiveLoop(Starter(shelf, self.start, threads=1), decide=Decider(0.6))
        self.capture = Capture(ClickCamera(every_s=0.005), self.loop.take, timeout_s=30, rate_fps=200)
        canary = Canary(shelf.root / "no store", shelf, self.start, margin=0.05)
        self.swapper = Swapper(shelf, self.loop, self.start, canary, threads=1, rules=SwapRules(5, 10, 10, retry_s=0.1))
        self.hand_over = HandOver(shelf, self.swapper, threads=1)
        self.loop.start()
        self.capture.start()
        self.hand_over.start()

    def start(self, path: Path) -> Impulse:
        version = int(path.parent.name)
        time.sleep(self.slow_s)
        if version in self.broken:
            raise ImpulseExitedError(f"version {version} ended")
        return ScriptedImpulse(version)

    def stop(self) -> None:
        self.hand_over.stop()
        self.swapper.stop()
        self.capture.stop()
        self.loop.stop()


@pytest.fixture
def camera(shelf: Shelf) -> Iterator[Camera]:
    made = Camera(shelf)
    yield made
    made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name in ("by-hand", "swapper")]
    assert not list(shelf.root.glob("answer-*")) + list(shelf.root.glob("request*"))


def test_going_back_swaps_the_running_model(camera: Camera) -> None:
    said = ask(camera.shelf, "rollback", timeout_s=20)
    assert said.startswith("Version 2 runs.")
    assert not re.search(r"\.\.", said)
    assert (camera.loop.version, camera.shelf.current, camera.shelf.previous) == (2, 2, 1)
    assert verdict_of(camera.shelf, 3).quarantined
    camera.shelf.offer(3)  # the network brings it again
    assert camera.swapper.swap(3) == verdict_of(camera.shelf, 3)
    assert (camera.loop.version, camera.shelf.offered) == (2, None)


def test_recovering_goes_to_the_factory_s_version_and_again_only_assembles_it(camera: Camera) -> None:
    assert ask(camera.shelf, "recover", timeout_s=20).startswith("Version 1 runs.")
    assert camera.loop.version == 1
    assert "assembled afresh" in ask(camera.shelf, "recover", timeout_s=20)
    with pytest.raises(SwapError, match="no earlier version"):
        ask(camera.shelf, "rollback", timeout_s=20)


def test_an_older_version_that_does_not_work_changes_nothing_and_keeps_its_verdict(camera: Camera) -> None:
    before = verdict_of(camera.shelf, 2), verdict_of(camera.shelf, 3)
    camera.broken = {2}
    with pytest.raises(SwapError, match="version 2 ended"):
        ask(camera.shelf, "rollback", timeout_s=20)
    assert (camera.loop.version, camera.shelf.current, camera.shelf.previous) == (3, 3, 2)
    assert (verdict_of(camera.shelf, 2), verdict_of(camera.shelf, 3)) == before
    assert read_trial(camera.shelf.root) is None


def test_trying_again_gives_a_quarantined_version_a_fresh_verdict(camera: Camera) -> None:
    ask(camera.shelf, "rollback", timeout_s=20)
    camera.broken = {3}
    with pytest.raises(SwapError, match="version 3 ended"):
        ask(camera.shelf, "try", 3, timeout_s=20)
    assert verdict_of(camera.shelf, 3).state == "probe"
    assert camera.shelf.offered is None
    camera.broken = set()
    assert ask(camera.shelf, "try", 3, timeout_s=20).startswith("Version 3 runs.")
    assert (camera.shelf.current, camera.loop.version) == (3, 3)


def test_trying_again_what_something_else_stands_in_the_way_of_stays_offered(camera: Camera) -> None:
    ask(camera.shelf, "rollback", timeout_s=20)
    disk = FullDisk("impulse.eim")
    disk.only = True
    with disk.mounted(), pytest.raises(SwapError, match="No space left"):
        ask(camera.shelf, "try", 3, timeout_s=20)
    assert camera.shelf.offered == 3


def test_a_request_is_done_once_even_if_its_answer_finds_no_room(camera: Camera) -> None:
    real = write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name.startswith("answer"):
            raise OSError(28, "No space left on device")
        real(path, data)

    with patch.object(by_hand, "write_atomically", full), pytest.raises(SwapError, match="gave no answer"):
        ask(camera.shelf, "rollback", timeout_s=4)
    assert (camera.shelf.current, camera.loop.version) == (2, 2)  # not 1


def test_what_is_asked_while_something_else_is_done_is_done_next(camera: Camera) -> None:
    camera.slow_s = 0.4
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(ask, camera.shelf, "rollback", timeout_s=20)
        wait_until(lambda: camera.swapper.trial)
        assert ask(camera.shelf, "recover", timeout_s=20).startswith("Version 1 runs.")
        assert first.result().startswith("Version 2 runs.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"wish": "dance", "version": 0, "token": "aa"}',
        b'{"wish": "rollback", "version": 0, "token": "../../etc/passwd"}',
        b'{"wish": "rollback", "version": null, "token": "aa"}',
    ],
)
def test_a_damaged_request_is_removed_and_changes_nothing(
    camera: Camera, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    request = camera.shelf.root / "request.json"
    request.write_bytes(content)
    wait_until(lambda: not request.exists() and "It was removed" in caplog.text)
    assert camera.shelf.current == 3


def test_what_was_left_for_an_earlier_process_is_void(shelf: Shelf) -> None:
    (shelf.root / "request.json").write_text('{"wish": "recover", "version": 0, "token": "aa"}')
    (shelf.root / "answer-bb.json").write_text("[true, 1]")
    camera = Camera(shelf)
    try:
        assert sorted(path.name for path in shelf.root.glob("*.json")) == []
        time.sleep(0.5)
        assert shelf.current == 3
    finally:
        camera.stop()


def test_without_an_answer_the_request_is_withdrawn(shelf: Shelf) -> None:
    with pytest.raises(SwapError, match=r"no answer within 0 s.*withdrawn.*journalctl"):
        ask(shelf, "rollback", timeout_s=0.3)
    assert not list(shelf.root.glob("*.json"))


# After a power cut


@pytest.mark.parametrize("state", [State.VERIFY, State.PROBE, State.SOAK])
def test_a_request_that_a_power_cut_ended_is_void(shelf: Shelf, state: State) -> None:
    write_trial(shelf.root, Trial(2, state, by_person=True))
    resume(shelf)
    assert (read_trial(shelf.root), shelf.current) == (None, 3)
    assert verdict_of(shelf, 2).accepted
