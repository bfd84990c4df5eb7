from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.eim.runner import Impulse, start_impulse
from appliance.errors import ImpulseExitedError, ModelError
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.staging import stage
from appliance.starter import RELAPSE_S, RELAPSES, Starter
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ScriptedImpulse
from tests.fakes.swap_bench import FullDisk


class Bench:
    """A shelf with versions 1 to 3, of which 3 runs, and a clock that a test sets."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.shelf: Shelf = TinyFleet(root, backbone).shelf(root / "models", 1, 2, 3)
        self.shelf.note_factory(1)
        self.now_s = 1000.0
        self.broken: set[int] = set()
        self.tried: list[int] = []
        self.starter = Starter(self.shelf, self._start, threads=1, clock=lambda: self.now_s)

    def _start(self, path: Path) -> Impulse:
        version = int(path.parent.name)
        self.tried.append(version)
        if version in self.broken:
            raise ImpulseExitedError(f"it ended {version}")
        return ScriptedImpulse(version)

    def judged(self, version: int, *, accepted: bool) -> None:
        write_verdict(self.shelf.root, Verdict(version, accepted, "because", datetime.now(UTC)))

    def verdict(self, version: int) -> Verdict | None:
        return read_verdict(self.shelf.root, version)

    def relapse(self) -> None:
        """As often as it takes: the current version starts, and fails at once."""
        for _ in range(RELAPSES):
            assert self.starter().version == self.shelf.current
            self.now_s += 5


@pytest.fixture
def bench(tmp_path: Path, tiny_backbone: bytes) -> Bench:
    return Bench(tmp_path, tiny_backbone)


def test_the_current_version_is_assembled_and_started(bench: Bench) -> None:
    assert bench.starter().version == 3
    assert bench.shelf.impulse_path(3).exists()
    assert (bench.tried, bench.starter.stand_in) == ([3], None)


def test_versions_are_tried_from_the_current_one_over_the_previous_to_what_was_good_once(bench: Bench) -> None:
    bench.judged(2, accepted=True)
    bench.broken = {3, 2}
    model = bench.starter()
    assert model.version == 1
    # Each twice: as it lies there, or is assembled; and 3 and 2 afresh where the file did not help.
    assert list(dict.fromkeys(bench.tried)) == [3, 2, 1]
    assert bench.starter.stand_in == "Version 3 does not start (it ended 3); version 1 runs instead"
    assert bench.shelf.current == 3  # for this time only


def test_once_the_current_version_starts_again_nothing_stands_in(bench: Bench) -> None:
    bench.broken = {3}
    assert bench.starter().version == 2
    bench.broken = set()
    assert bench.starter().version == 3
    assert bench.starter.stand_in is None


def test_a_quarantined_version_never_stands_in(bench: Bench) -> None:
    bench.judged(2, accepted=False)
    bench.broken = {3}
    assert bench.starter().version == 1
    assert 2 not in bench.tried


def test_nothing_that_starts_is_an_error_that_says_what_and_what_to_do(bench: Bench) -> None:
    bench.broken = {1, 2, 3}
    with pytest.raises(ModelError, match=r"No model version can be started.*Version 3.*Version 2.*Version 1.*doctor"):
        bench.starter()


def test_an_empty_shelf_is_an_error_too(tmp_path: Path, tiny_backbone: bytes) -> None:
    shelf = Shelf(tmp_path / "models", TinyFleet(tmp_path, tiny_backbone).public_key)
    with pytest.raises(ModelError, match="none on its shelf"):
        Starter(shelf, lambda _: ScriptedImpulse(1), threads=1)()


def test_pointers_to_versions_that_are_gone_do_not_keep_a_good_one_from_starting(bench: Bench) -> None:
    bench.shelf.activate(9)
    bench.shelf.activate(8)  # previous: 9
    bench.judged(3, accepted=True)
    assert bench.starter().version == 1  # the factory's
    assert "Version 8 does not start" in str(bench.starter.stand_in)


def test_a_rotten_eim_is_assembled_afresh(tmp_path: Path, tiny_backbone: bytes) -> None:
    shelf = TinyFleet(tmp_path, tiny_backbone).shelf(tmp_path / "models", 1)
    path = stage(shelf, shelf.manifest(1), threads=1)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    path.chmod(0o755)
    starter = Starter(shelf, start_impulse, threads=1)
    starter().impulse.close()
    assert path.read_bytes() == good
    assert starter.stand_in is None


def test_a_damaged_part_costs_only_the_versions_that_need_it(bench: Bench) -> None:
    head = bench.shelf.manifest(3).parts["head"]
    (bench.shelf.root / "parts" / head.sha256).write_bytes(b"rubbish")
    assert bench.starter().version == 2
    assert "damaged" in str(bench.starter.stand_in)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b"[]"])
def test_a_damaged_verdict_keeps_no_model_from_starting(bench: Bench, content: bytes) -> None:
    for version in (1, 2, 3):
        (bench.shelf.root / "verdicts" / f"{version}.json").write_bytes(content)
    assert bench.starter().version == 3


def test_a_full_disk_keeps_no_version_from_starting_that_is_assembled_already(bench: Bench) -> None:
    stage(bench.shelf, bench.shelf.manifest(2), threads=1)
    with FullDisk("impulse.eim").mounted():
        assert bench.starter().version == 2
    assert "No space left" in str(bench.starter.stand_in)


def test_a_version_that_fails_again_and_again_goes_back_for_good(bench: Bench) -> None:
    bench.judged(3, accepted=True)
    bench.relapse()
    assert bench.starter().version == 2
    verdict = bench.verdict(3)
    assert verdict is not None
    assert (verdict.quarantined, verdict.state) == (True, "rollback")
    assert "failed 3 times within 10 minutes" in verdict.reason
    assert "version 2 runs again" in verdict.reason
    assert bench.shelf.current == 2
    for _ in range(RELAPSES - 1):  # nor is version 2 held to what version 3 did
        assert bench.starter().version == 2


def test_a_relapse_passes_over_what_is_quarantined(bench: Bench) -> None:
    bench.judged(2, accepted=False)
    bench.relapse()
    assert bench.starter().version == 1
    assert bench.shelf.current == 1


def test_failures_that_are_far_apart_are_no_relapse(bench: Bench) -> None:
    for _ in range(10):
        assert bench.starter().version == 3
        bench.now_s += RELAPSE_S / (RELAPSES - 1)
    assert bench.verdict(3) is None


def test_starts_of_a_stand_in_are_no_relapse_of_the_current_version(bench: Bench) -> None:
    bench.broken = {3}
    for _ in range(6):
        assert bench.starter().version == 2
    bench.broken = set()
    assert bench.starter().version == 3
    assert bench.verdict(3) is None


def test_where_nothing_is_left_to_go_back_to_it_is_started_again(tmp_path: Path, tiny_backbone: bytes) -> None:
    shelf = TinyFleet(tmp_path, tiny_backbone).shelf(tmp_path / "models", 1)
    starter = Starter(shelf, lambda _: ScriptedImpulse(1), threads=1, clock=lambda: 0.0)
    for _ in range(RELAPSES + 3):
        assert starter().version == 1
    assert read_verdict(shelf.root, 1) is None


@pytest.mark.parametrize("at", ["3.json", "previous", "current"])
def test_a_relapse_that_can_t_be_written_down_still_brings_the_version_before(bench: Bench, at: str) -> None:
    for version in (2, 3):
        stage(bench.shelf, bench.shelf.manifest(version), threads=1)
    bench.relapse()
    disk = FullDisk(at)
    with disk.mounted():
        assert bench.starter().version == 2
        assert "Version 3 failed 3 times" in str(bench.starter.stand_in)
        assert bench.starter().version == 2
        disk.room()
        assert bench.starter().version == 2
    assert bench.shelf.current == 2
    verdict = bench.verdict(3)
    assert verdict is not None
    assert verdict.quarantined


def test_an_error_that_is_no_model_s_fault_comes_through(bench: Bench) -> None:
    def start(_: Path) -> Impulse:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Starter(bench.shelf, start, threads=1)()
