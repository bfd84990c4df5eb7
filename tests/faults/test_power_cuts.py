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
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.models import signing
from appliance.models.trial import read_trial
from appliance.models.verdict import Verdict, read_verdict
from tests.fakes.cut_camera import wait_until
from tests.fakes.eim_traces import runs, segments_of, segments_of_fake
from tests.fakes.fleet import TinyFleet

PROJECT = Path(__file__).resolve().parents[2]

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
    code = "from tests.fakes.cut_camera import serve; from appliance.eim import guarded; serve()"
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
