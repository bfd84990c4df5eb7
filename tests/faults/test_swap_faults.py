"""The fault table of a swap: each row's fault ends with the old model answering, in time, and nothing left behind.

Every row has a real process for the new version beside a real, tiny ``.eim`` that runs in a live loop. The time-outs
are short here; what is asserted is the bound that stands in the row.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from appliance.eim.runner import start_impulse
from appliance.errors import ManifestError, PartError, SignatureError
from appliance.live import RunningModel
from appliance.models.shelf import Shelf
from appliance.models.trial import Trial, read_trial
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.probe import QUESTIONS
from appliance.starter import RELAPSES
from appliance.store.frames import FrameStore
from appliance.vision import encode_jpeg, prepare
from tests.fakes.fleet import TinyFleet
from tests.fakes.parts import INPUT, LABELS
from tests.fakes.swap_bench import NEW, OLD, Arrange, Case, Patience, SwapBench, other

FOREIGN_ELF = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\x00" + bytes(44)  # RISC-V
OWN_FRAMES = 12
PATIENT = Patience()
IMPATIENT = Patience(reply_s=0.6)
MEMORY = Patience(memory_bytes=128 * 2**20)


# What is done to version 2 before it is tried


def part_of(case: Case, role: str) -> Path:
    return case.shelf.root / "parts" / case.shelf.manifest(NEW).parts[role].sha256


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.write_bytes(content)

    return damage


def staged(damage: Callable[[Path], None]) -> Callable[[SwapBench, Case], None]:
    def arrange(_: SwapBench, case: Case) -> None:
        case.damage = damage

    return arrange


def own_frames(bench: SwapBench, case: Case) -> None:
    """Test frames that version 1 names right, and a version 2 that calls everything ``hardhat``."""
    other()(bench, case)
    chance = np.random.default_rng(5)
    with start_impulse(case.shelf.impulse_path(OLD)) as impulse, FrameStore(case.store) as store:
        kept = 0
        for _ in range(400):
            low, high = sorted(chance.integers(0, 256, 2))
            jpeg = encode_jpeg(chance.integers(low, high + 1, (32, 32, 3), dtype=np.uint8), quality=95)
            frame = store.add(jpeg, taken_utc=datetime.now(UTC), source="live").frame
            scores = impulse.classify(prepare(store.pixels(frame.id), INPUT)).scores
            label = max(scores, key=lambda each: scores[each])
            if label == "hardhat" or frame.split != "test":
                store.delete(frame.id)
                continue
            store.label(frame.id, label, by="test")
            kept += 1
            if kept == OWN_FRAMES:
                return
    raise AssertionError(f"only {kept} frames")


def dies_when_judged(bench: SwapBench, case: Case) -> None:
    own_frames(bench, case)
    other("exits-mid-reply", at_frame=QUESTIONS + 3)(bench, case)


def unreadable_frames(bench: SwapBench, case: Case) -> None:
    own_frames(bench, case)
    for path in (case.store / "frames").rglob("*.jpg"):
        path.write_bytes(b"\xff\xd8\xff rubbish")


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        found_in: The state in which it must be found.
        says: What the reason must name.
        arrange: Brings it about.
        ends: ``quarantined``, or ``waits``: then it is tried again.
        bound_s: From the offer to the verdict.
    """

    found_in: str
    says: str
    arrange: Arrange
    ends: str = "quarantined"
    bound_s: float = 20
    patience: Patience = PATIENT
    soak_decisions: int = 10
    soak_deadline_s: float = 20


TABLE: dict[str, Row] = {
    "truncated part": Row("verify", "don't match its hash", lambda _, case: cut_short(part_of(case, "head"))),
    "flipped byte in a part": Row("verify", "don't match its hash", lambda _, case: flip(part_of(case, "head"))),
    "missing part": Row("verify", "is missing", lambda _, case: part_of(case, "head").unlink()),
    "flipped byte in the manifest": Row(
        "verify", "sign", lambda _, case: flip(case.shelf.root / "versions" / str(NEW) / "manifest.json")
    ),
    "label order changed": Row("verify", "labels and their order", lambda *_: None),
    "truncated .eim": Row("probe", "ended before it could be asked", staged(cut_short)),
    "empty .eim": Row("probe", "is empty", staged(become(b""))),
    "wrong architecture": Row("probe", "built for processor 243", staged(become(FOREIGN_ELF))),
    "not executable": Row("probe", "not executable", staged(lambda path: path.chmod(0o644))),
    "vanishes after it was staged": Row("probe", "No such file", staged(lambda path: path.unlink())),
    "says other labels": Row("probe", "says it is version 2 with labels nobody", other(labels=LABELS[::-1])),
    "says another version": Row("probe", "says it is version 7", other(version=7)),
    "exits at once": Row("probe", "exit status 3", other("exits-at-once")),
    "never makes its socket": Row("probe", "made no socket", other("no-socket"), patience=Patience(start_s=1)),
    "silent at hello": Row("probe", "gave no answer", other("silent-at-hello"), patience=Patience(start_s=1.5)),
    "silent after hello": Row("probe", "gave no answer", other("silent"), patience=IMPATIENT),
    "silent and deaf to signals": Row("probe", "gave no answer", other("silent-and-deaf"), patience=IMPATIENT),
    "answers rubbish": Row("probe", "not JSON", other("rubbish")),
    "NaN scores": Row("probe", "score nan", other("score-not-a-number")),
    "refuses": Row("probe", "refused a request", other("refuses")),
    "answers slowly": Row("probe", "ms for a picture", other("answers-slowly")),
    "eats memory": Row("probe", "MemoryError", other("eats-memory"), patience=MEMORY),
    "dies while it is judged": Row("judge", "ended while it was asked", dies_when_judged, bound_s=30),
    "worse on the own test frames": Row("judge", "Worse on this camera's own", own_frames, bound_s=30),
    "crashes on the 100th frame": Row(
        "soak", "Segmentation fault", other("exits-mid-reply", at_frame=100), soak_decisions=150
    ),
    "killed in live work": Row("soak", "SIGKILL", other("killed-later", at_frame=QUESTIONS + 4)),
    "silent in live work": Row("soak", "gave no answer", other("silent", at_frame=QUESTIONS + 4), patience=IMPATIENT),
    "answers slowly in live work": Row(
        "soak", "ms for a frame in live work", other("answers-slowly", at_frame=QUESTIONS + 1)
    ),
    "NaN scores in live work": Row("soak", "score nan", other("score-not-a-number", at_frame=QUESTIONS + 4)),
    "eats memory in live work": Row(
        "soak", "MemoryError", other("eats-memory", at_frame=QUESTIONS + 4), patience=MEMORY
    ),
    "the camera gives no frames": Row("soak", "live frames in time", other(), "waits", soak_deadline_s=0.5),
}


@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_ends_with_the_old_model_answering(bench: SwapBench, tmp_path: Path, fault: str) -> None:
    row = TABLE[fault]
    case = bench.case(tmp_path, **({"labels": LABELS[::-1]} if fault == "label order changed" else {}))
    case.patience = row.patience
    bench.use(case)
    row.arrange(bench, case)
    case.starts.clear()
    entered: list[str] = []

    def see(trial: Trial) -> None:
        entered.append(trial.state)
        if row.ends == "waits" and trial.state == row.found_in:
            bench.camera.runs.clear()

    swapper = bench.swapper(case, entered=see, soak_decisions=row.soak_decisions, soak_deadline_s=row.soak_deadline_s)
    begun = time.monotonic()
    verdict = swapper.swap(NEW)
    took_s = time.monotonic() - begun

    assert not verdict.accepted
    assert row.says in verdict.reason
    assert (verdict.state, verdict.quarantined) == (row.found_in, row.ends == "quarantined")
    assert took_s < row.bound_s
    bench.camera.runs.set()
    bench.decides(OLD)
    assert read_verdict(case.shelf.root, NEW) == verdict
    assert read_trial(case.shelf.root) is None
    assert (case.shelf.current, case.shelf.previous) == (OLD, None)
    assert entered[-1] == ("rollback" if verdict.final else row.found_in)
    if verdict.quarantined:
        assert case.shelf.offered is None
        case.shelf.offer(NEW)  # the network brings it again
        case.starts.clear()
        assert bench.swapper(case).swap(NEW) == verdict
        assert (case.starts, case.shelf.offered) == ([], None)
    else:
        assert case.shelf.offered == NEW


def test_a_version_that_waited_for_frames_runs_once_they_come(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other()(bench, case)
    bench.use(case)
    swapper = bench.swapper(case, soak_deadline_s=0.3, entered=lambda _: bench.camera.runs.clear())
    for _ in range(4):  # more often than a version may be cut off by restarts
        assert not swapper.swap(NEW).final
        bench.camera.runs.set()
        bench.decides(OLD)
    assert bench.swapper(case).swap(NEW).accepted
    bench.decides(NEW)


def test_own_frames_that_cannot_be_read_leave_the_judgement_to_the_server(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    unreadable_frames(bench, case)
    bench.use(case)
    verdict = bench.swapper(case).swap(NEW)
    assert verdict.accepted
    assert "the server's verdict counts" in verdict.reason
    bench.decides(NEW)


@pytest.mark.parametrize("damaged", ["manifest.json", "impulse.eim"])
def test_a_good_version_is_not_blamed_for_the_running_one_s_damage(
    bench: SwapBench, tmp_path: Path, damaged: str
) -> None:
    case = bench.case(tmp_path)
    own_frames(bench, case)
    bench.use(case)
    cut_short(case.shelf.root / "versions" / str(OLD) / damaged)
    verdict = bench.swapper(case).swap(NEW)
    assert verdict.accepted, verdict.reason
    assert "Version 1 could not be asked" in verdict.reason
    bench.decides(NEW)


def test_where_both_models_die_at_once_the_old_one_is_started_again(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other("killed-later", at_frame=QUESTIONS + 4)(bench, case)
    bench.use(case)
    with start_impulse(case.shelf.impulse_path(OLD)) as idle:
        bench.loop.exchange(RunningModel(OLD, idle), timeout_s=10)  # one whose process id is known
        bench.loop.settle()
        bench.decides(OLD)

        def kill_the_old_one(trial: Trial) -> None:
            if trial.state == "soak":
                os.kill(idle.pid, signal.SIGKILL)

        verdict = bench.swapper(case, entered=kill_the_old_one).swap(NEW)
        assert (verdict.quarantined, verdict.state) == (True, "soak")
        bench.decides(OLD)
        assert case.starts == [NEW, OLD]


# After the commit


def test_a_version_that_crashes_after_its_commit_goes_back_for_good(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other("exits-mid-reply", at_frame=100)(bench, case)
    bench.use(case)
    assert bench.swapper(case).swap(NEW).accepted
    begun = time.monotonic()
    bench.decides(OLD, within_s=45)
    assert time.monotonic() - begun < 45
    assert case.starts.count(NEW) == 1 + RELAPSES
    verdict = read_verdict(case.shelf.root, NEW)
    assert verdict is not None
    assert verdict.quarantined
    assert f"failed {RELAPSES} times" in verdict.reason
    assert (case.shelf.current, bench.starter.stand_in) == (OLD, None)
    case.shelf.offer(NEW)
    assert bench.swapper(case).swap(NEW) == verdict


def test_a_version_that_crashes_in_the_moment_of_its_commit_is_taken_back(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other("exits-mid-reply", at_frame=100)(bench, case)
    bench.use(case)

    def wait_for_the_crash(trial: Trial) -> None:
        if trial.state == "commit":
            bench.decides(OLD)

    verdict = bench.swapper(case, entered=wait_for_the_crash).swap(NEW)
    assert "Segmentation fault" in verdict.reason
    assert (verdict.quarantined, case.shelf.current, case.shelf.offered) == (True, OLD, None)
    bench.decides(OLD)


# What the network brings


def refused(bench: SwapBench, shelf: Shelf, manifest: bytes, signature: bytes, parts: dict[str, bytes]) -> None:
    before = sorted(path.relative_to(shelf.root) for path in shelf.root.rglob("*"))
    begun = time.monotonic()
    with pytest.raises((SignatureError, PartError, ManifestError)):
        shelf.accept(manifest, signature, parts)
    assert time.monotonic() - begun < 5
    assert sorted(path.relative_to(shelf.root) for path in shelf.root.rglob("*")) == before
    bench.decides(OLD)


def test_what_is_wrong_on_arrival_never_reaches_the_shelf(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    bench.use(case)
    manifest, signature, parts = bench.fleet.version(3)
    head = max(set(parts), key=lambda name: name not in case.shelf.digests())
    damaged = bytearray(parts[head])
    damaged[7] ^= 1
    stranger = TinyFleet(tmp_path, bench.fleet.backbone)
    refused(bench, case.shelf, manifest, stranger.sign(manifest), parts)
    refused(bench, case.shelf, manifest, signature[:-1], parts)
    refused(bench, case.shelf, manifest.replace(b'"version": 3', b'"version": 4'), signature, parts)
    refused(bench, case.shelf, manifest, signature, {**parts, head: parts[head][:-1]})
    refused(bench, case.shelf, manifest, signature, {**parts, head: bytes(damaged)})
    refused(bench, case.shelf, *bench.fleet.version(NEW))  # replayed
    refused(bench, case.shelf, *bench.fleet.version(OLD))


@pytest.mark.parametrize("offered", [OLD, NEW, 9])
def test_an_offer_of_what_is_older_quarantined_or_absent_changes_nothing(
    bench: SwapBench, tmp_path: Path, offered: int
) -> None:
    case = bench.case(tmp_path)
    bench.use(case)
    if offered == NEW:
        write_verdict(case.shelf.root, Verdict(NEW, False, "It was bad", datetime.now(UTC), state="probe"))
    if offered == OLD:  # version 2 runs, and the network replays version 1, which is here and has no verdict
        assert bench.swapper(case).swap(NEW).accepted
    runs = bench.loop.version
    assert runs is not None
    before = {version: read_verdict(case.shelf.root, version) for version in (1, 2, 9)}
    case.shelf.offer(offered)
    case.starts.clear()
    swapper = bench.swapper(case)
    swapper.start()
    try:
        ends = time.monotonic() + 10
        while case.shelf.offered is not None and time.monotonic() < ends:
            time.sleep(0.05)
        time.sleep(0.6)
        bench.decides(runs)
    finally:
        swapper.stop()
    assert (case.starts, case.shelf.offered, case.shelf.current) == ([], None, runs)
    assert {version: read_verdict(case.shelf.root, version) for version in (1, 2, 9)} == before
