"""The power goes at every boundary of a swap, and at random: the next start always answers with a model that works.

A camera process in small (loop, starter, swapper, real ``.eim`` processes) runs in a process group of its own, which is
killed as a whole. Every camera is forked from one process that has imported everything, so that a start costs little.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from appliance import ending, swap
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.ending import resume
from appliance.live import LiveLoop
from appliance.models import signing
from appliance.models.shelf import Shelf
from appliance.models.trial import read_trial, write_trial
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from tests.fakes.eim_faults import write_version
from tests.fakes.eim_traces import runs, segments_of, segments_of_fake
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ClickCamera

PROJECT = Path(__file__).resolve().parents[2]
TOO_LONG_S = 60

# What is written on the way of a good version, and on that of a bad one.
GOOD = (
    "verify",
    "stage",
    "probe",
    "judge",
    "activate",
    "soak",
    "commit",
    "previous",
    "current",
    "verdict",
    "withdrawal",
)
BAD = ("rollback", "verdict", "withdrawal")


# The camera


@dataclass(frozen=True)
class Job:
    """What a camera is to do.

    Attributes:
        root: Its folder: ``models``, and ``t`` for temporary files.
        key: The fleet's public key, PEM.
        cut: ``before`` or ``after`` and what is written then; empty lets it live.
        fault: Of every version but the first.
        real: Real .eim files, not fakes.
        hold: Stop there, and leave a file ``held``.
        watch: Let the swapper find the offer by itself, as in a camera.
        accept: Instead of running, take this version from the network: manifest, signature, parts.
    """

    root: str
    key: str
    cut: str = ""
    fault: str = "none"
    real: bool = False
    watch: bool = False
    hold: str = ""
    accept: str = ""


def serve() -> None:
    """Fork a camera for every line of standard input; say its process id, then how it ended."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(run(job))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(job: Job) -> int:
    """One life of a camera: start, decide, swap what is offered; 0 where it got to the end."""
    root = Path(job.root)
    tempfile.tempdir = str(root / "t")
    shelf = Shelf(root / "models", signing.load_public_key(job.key.encode()))
    with pulled_plugs(job.cut, job.hold, root / "held"):
        if job.accept:
            folder = Path(job.accept)
            parts = {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}
            shelf.accept((folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes(), parts)
            return 0
        shelf.sweep()
        resume(shelf)
        start = starts(job)
        loop = LiveLoop(Starter(shelf, start, threads=1), decide=Decider(0.6))
        capture = Capture(ClickCamera(every_s=0.004), loop.take, timeout_s=30, rate_fps=250)
        canary = Canary(root / "store", shelf, start, margin=0.05)
        swapper = Swapper(shelf, loop, start, canary, threads=1, rules=SwapRules(10, 20, 10, retry_s=1))
        loop.start()
        capture.start()
        booted = wait_until(lambda: loop.version if loop.mark()[1] > 3 else None)
        say(root, booted=booted)
        if job.watch:
            swapper.start()
            wait_until(lambda: shelf.offered is None and read_trial(shelf.root) is None)
        elif shelf.offered is not None:
            swapper.swap(shelf.offered)
        mark = loop.mark()
        wait_until(lambda: loop.pace_since(mark).decisions > 3)
        say(root, runs=loop.version)
        swapper.stop()
        capture.stop()
        loop.stop()
    return 0


def starts(job: Job) -> Callable[[Path], RunningImpulse]:
    def start(path: Path) -> RunningImpulse:
        version = int(path.parent.name)
        if job.real:
            return start_impulse(path)
        fake = Path(job.root) / f"{version}.eim"
        return start_impulse(write_version(fake, version, fault="none" if version == 1 else job.fault))

    return start


@contextlib.contextmanager
def pulled_plugs(cut: str, hold: str, held: Path) -> Iterator[None]:
    """While this lasts, the whole process group is killed where ``cut`` says, and stands still where ``hold`` says."""

    def plugged(name: Callable[..., str], real: Callable[..., object]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            pull(f"before {name(*arguments)}")
            real(*arguments)
            pull(f"after {name(*arguments)}")

        return call

    def pull(now: str) -> None:
        if now == cut:
            os.killpg(0, signal.SIGKILL)
        if now == hold:
            held.touch()
            time.sleep(TOO_LONG_S)

    with (
        patch.object(swap, "write_trial", plugged(lambda _, trial: str(trial.state), write_trial)),
        patch.object(ending, "write_verdict", plugged(lambda *_: "verdict", write_verdict)),
        patch.object(Shelf, "_point", plugged(lambda _, name, __: name, Shelf._point)),
        patch.object(Shelf, "_put_version", plugged(lambda *_: "version", Shelf._put_version)),
        patch.object(Shelf, "withdraw_offer", plugged(lambda _: "withdrawal", Shelf.withdraw_offer)),
    ):
        yield


def wait_until(reached: Callable[[], Any]) -> Any:
    ends = time.monotonic() + TOO_LONG_S
    while time.monotonic() < ends:
        if found := reached():
            return found
        time.sleep(0.01)
    raise TimeoutError


def say(root: Path, **said: object) -> None:
    path = root / "said.json"
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | said))


# The test's side


class Site:
    """Cameras on one folder, one life after the other."""

    def __init__(self, root: Path, backbone: bytes, zygote: subprocess.Popen[str]) -> None:
        self.root = root
        self._zygote = zygote
        self.fleet = TinyFleet(root, backbone)
        self._key = signing.public_pem(self.fleet.public_key).decode()
        self.shelf = self.fleet.shelf(root / "models", 1)
        self.shelf.note_factory(1)
        (root / "t").mkdir()

    def offer(self, version: int) -> None:
        self.shelf.accept(*self.fleet.version(version))
        self.shelf.offer(version)

    def begin(self, **job: object) -> int:
        """Start a camera; its process id."""
        (self.root / "said.json").unlink(missing_ok=True)
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps({"root": str(self.root), "key": self._key, **job}) + "\n")
        self._zygote.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """Wait for its end; its exit code, -9 where it was killed. Nothing of it may be left."""
        code = int(self._line())
        ends = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < ends:
            time.sleep(0.02)
        assert not left, f"{left} outlived their camera"
        assert not [name for fake in self.root.glob("*.eim") for name in segments_of_fake(fake)]
        return code

    def live(self, **job: object) -> dict[str, int]:
        """A whole life; what it said."""
        self.begin(**job)
        code = self.end()
        said: dict[str, int] = json.loads((self.root / "said.json").read_text())
        assert (code, set(said)) == (0, {"booted", "runs"})
        return said

    def cut(self, where: str, **job: object) -> dict[str, int]:
        """A life that ends by a power cut; what it had said."""
        self.begin(cut=where, **job)
        assert self.end() == -signal.SIGKILL, f"never came to {where}"
        path = self.root / "said.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def processes(self) -> list[str]:
        """Command lines of what runs in or for this folder, but the test itself."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if str(self.root).encode() in line and runs(int(entry.name)) and int(entry.name) != os.getpid():
                    found.append(f"{entry.name}: {line.replace(bytes(1), b' ').decode()}")
        return found

    def verdict(self, version: int = 2) -> Verdict | None:
        return read_verdict(self.shelf.root, version)

    def rests(self) -> bool:
        """Whether nothing is under way, and nothing half done lies about."""
        hidden = list(self.shelf.root.rglob(".*"))
        return not hidden and read_trial(self.shelf.root) is None and self.shelf.offered is None

    def _line(self) -> str:
        assert self._zygote.stdout is not None
        line = self._zygote.stdout.readline()
        assert line, "the process that forks cameras ended"
        return line


@pytest.fixture(scope="module")
def zygote() -> Iterator[subprocess.Popen[str]]:
    code = "from tests.faults.test_power_cuts import serve; from appliance.eim import guarded; serve()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a process that forks may have no threads
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def site(tmp_path: Path, tiny_backbone: bytes, zygote: subprocess.Popen[str]) -> Iterator[Site]:
    made = Site(tmp_path, tiny_backbone, zygote)
    yield made
    for process in made.processes():  # of a test that failed
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split(":")[0]), signal.SIGKILL)


@pytest.mark.parametrize("what", GOOD)
def test_a_cut_on_a_good_version_s_way_starts_a_model_that_works_and_the_swap_is_finished(
    site: Site, what: str
) -> None:
    site.offer(2)
    past_commit = what in GOOD[GOOD.index("commit") + 1 :]
    site.cut(f"before {what}")
    assert site.shelf.current == (2 if what in ("verdict", "withdrawal") else 1)
    said = site.cut(f"after {what}")
    # From the moment in which `commit` is on disk, the next start finishes it before it starts a model.
    assert said.get("booted") in ((None, 2) if past_commit else (1,))
    verdict = site.verdict()
    assert verdict is None or verdict.accepted
    said = site.live()
    assert said == {"booted": 2 if past_commit or what == "commit" else 1, "runs": 2}
    verdict = site.verdict()
    assert verdict is not None
    assert verdict.accepted
    assert "10 live frames" in verdict.reason
    assert (site.shelf.current, site.shelf.previous) == (2, 1)
    assert site.rests()
    assert not list((site.root / "t").iterdir())


@pytest.mark.parametrize("what", BAD)
def test_a_cut_on_a_bad_version_s_way_out_keeps_it_out(site: Site, what: str) -> None:
    site.offer(2)
    site.cut(f"before {what}", fault="rubbish")
    site.cut(f"after {what}", fault="rubbish")
    assert site.live(fault="rubbish") == {"booted": 1, "runs": 1}
    verdict = site.verdict()
    assert verdict is not None
    assert verdict.quarantined
    assert "not JSON" in verdict.reason
    assert (site.shelf.current, site.shelf.previous) == (1, None)
    assert site.rests()


def test_a_version_whose_trials_always_end_in_a_cut_is_quarantined_and_not_tried_again(site: Site) -> None:
    site.offer(2)
    for attempt in (1, 2, 3):
        assert site.cut("after soak") == {"booted": 1}
        trial = read_trial(site.shelf.root)
        assert trial is not None
        assert trial.attempt == attempt
        assert site.verdict() is None
    assert site.live() == {"booted": 1, "runs": 1}
    verdict = site.verdict()
    assert verdict is not None
    assert verdict.quarantined
    assert "restarted 3 times" in verdict.reason
    site.shelf.offer(2)
    assert site.live() == {"booted": 1, "runs": 1}
    assert site.verdict() == verdict
    assert site.rests()


def test_cuts_at_random_moments_never_leave_a_camera_without_a_model(site: Site) -> None:
    chance = random.Random(3)  # noqa: S311  # moments to cut at, not secrets
    version, cuts, verdicts = 2, 0, dict[int, Verdict]()
    site.offer(version)
    for _ in range(15):
        camera = site.begin(watch=True)
        time.sleep(chance.uniform(0, 1.2))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(camera, signal.SIGKILL)
        cuts += site.end() == -signal.SIGKILL
        verdict = site.verdict(version)
        if verdict is not None:
            verdicts.setdefault(version, verdict)
        out = [number for number, each in verdicts.items() if each.quarantined]
        assert site.shelf.current not in (None, *out)
        site.shelf.manifest(site.shelf.current or 0)
        if verdict is not None and site.shelf.offered is None and read_trial(site.shelf.root) is None:
            version += 1
            site.offer(version)
    said = site.live()
    final = site.verdict(version)
    assert final is not None
    assert said["runs"] == (version if final.accepted else site.shelf.current)
    for number, first in verdicts.items():
        now = site.verdict(number)
        assert now is not None
        assert (now.accepted, now.reason) == (first.accepted, first.reason)
        assert now.accepted or "restarted 3 times" in now.reason
    assert cuts > 5
    assert site.rests()


@pytest.mark.parametrize("where", ["after probe", "after soak"])
def test_real_eim_files_end_with_a_camera_that_is_cut(site: Site, where: str) -> None:
    site.offer(2)
    camera = site.begin(real=True, hold=where)
    wait_until((site.root / "held").exists)
    eims = [int(process.split(":")[0]) for process in site.processes()]
    memory = [segment for eim in eims for segment in segments_of(eim)]
    assert memory
    os.killpg(camera, signal.SIGKILL)
    assert site.end() == -signal.SIGKILL
    assert not [segment for segment in memory if segment.exists()]


def test_a_real_eim_ends_when_its_camera_is_cut_while_it_starts(site: Site) -> None:
    camera = site.begin(real=True)
    wait_until(site.processes)  # the shell at its head has just begun
    os.killpg(camera, signal.SIGKILL)
    assert site.end() == -signal.SIGKILL


@pytest.mark.parametrize("where", ["before version", "after version", "before highest", "after highest"])
def test_a_cut_while_a_version_arrives_leaves_a_shelf_that_takes_it_again(site: Site, where: str) -> None:
    manifest, signature, parts = site.fleet.version(2)
    arrived = site.root / "arrived"
    (arrived / "parts").mkdir(parents=True)
    (arrived / "manifest.json").write_bytes(manifest)
    (arrived / "manifest.sig").write_bytes(signature)
    for name, data in parts.items():
        (arrived / "parts" / name).write_bytes(data)
    site.cut(where, accept=str(arrived))
    site.shelf.sweep()
    assert site.shelf.current == 1
    if where == "after highest":
        assert (site.shelf.highest, site.shelf.versions()) == (2, [1, 2])
    else:
        assert site.shelf.highest == 1
        site.shelf.accept(manifest, signature, parts)
    site.shelf.offer(2)
    assert site.live() == {"booted": 1, "runs": 2}
    assert site.shelf.highest == 2
    assert site.rests()
