"""A whole site that runs: a real SuperLink, and the processes that people run, on tiny parts and loopback."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import Verdict
from appliance.night_status import NightStatus, read_night_status
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from server.config import ServerSettings, load
from server.demo.pages import page_state
from server.demo.programs import Programs, wait_for_page
from server.demo.site import DemoCamera
from server.enrol import enrol_camera
from server.paths import ServerPaths
from server.registry import Registry
from server.superlink import SuperLink
from tests.fakes import parts
from tests.fakes.processes import alive, family, parents_by_pid
from tests.fakes.site import draw_folders, make_tiny_fleet, write_server_settings
from trainer import flower

RULES: dict[str, float | str] = {
    "rounds": 1,
    "epochs": 20,
    "rate": 0.05,
    "quorum": 2,
    "min_replies": 1,
    "quorum_deadline_s": 90,
    "round_deadline_s": 60,
    "verdict_deadline_s": 90,
}
HANG_S = 240  # a night that takes longer than this hangs; a good one takes 30 s


@dataclass(frozen=True)
class Held:
    """A night that ended.

    Attributes:
        exit_code: Of ``sitecam-server round``.
        printed: What that printed.
        outcome: In the registry.
        message: Likewise.
        events: Likewise, sentence by sentence.
        verdicts: Likewise, by camera.
        figures: Likewise.
    """

    exit_code: int
    printed: str
    outcome: str | None
    message: str
    events: list[str]
    verdicts: dict[str, Verdict | None]
    figures: dict[str, Any]


class TinySite:
    """A server and its cameras, enrolled, with labelled frames; the SuperLink runs while the context lasts.

    Args:
        root: Its folder.
        backbone: The tiny backbone.
        cameras: How many.
    """

    def __init__(self, root: Path, backbone: bytes, *, cameras: int = 2) -> None:
        self.root = root
        self._backbone = backbone
        self._config = root / "sitecam-server.toml"
        self._port = free_port()
        self.write_rules()
        self.programs = Programs(root / "logs")
        self.cameras = tuple(self._lay_out(number) for number in range(1, cameras + 1))
        self._superlink: SuperLink | None = None
        self._rounds = 0

    def __enter__(self) -> Self:
        make_tiny_fleet(self.settings, self._backbone)
        pictures = draw_folders(self.root / "pictures" / "server", labels=parts.LABELS, seed=99, train=0, test=8)
        with FrameStore(self.paths.store) as store:
            import_folders(store, pictures, labels=parts.LABELS, by="test", split="test")
        self._superlink = SuperLink(self.settings, self._config)
        self._superlink.start()
        try:
            for camera in self.cameras:
                self._enrol(camera)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End everything that still runs."""
        self.programs.stop()
        if self._superlink:
            self._superlink.stop()
            self._superlink = None

    # What there is

    @property
    def settings(self) -> ServerSettings:
        """The server's, as they stand in its file."""
        return load(self._config)

    @property
    def paths(self) -> ServerPaths:
        """The server's state folder."""
        return ServerPaths(self.root / "server")

    @property
    def shelf(self) -> Shelf:
        """The server's."""
        return Shelf(self.paths.models, load_public_key(self.paths.signing_public.read_bytes()))

    @property
    def registry(self) -> Registry:
        """The server's."""
        return Registry(self.paths.registry)

    @property
    def superlink(self) -> SuperLink:
        """The running one."""
        assert self._superlink is not None, "the site isn't running"
        return self._superlink

    def write_rules(self, **changes: float | str) -> None:
        """Set how the next night goes: RULES with changes."""
        night: dict[str, Any] = RULES | changes
        write_server_settings(self._config, **night)
        with self._config.open("a", encoding="utf-8") as file:
            file.write(f"[superlink]\nport = {self._port}\n")

    # Doing

    def start_camera(self, camera: DemoCamera) -> None:
        """Start its live loop and wait for its first decision."""
        self.programs.start(camera.name, "appliance.cli", "--config", str(camera.config), "camera")
        wait_for_page(self.programs, camera, lambda state: state["decision"] is not None, what="a decision")

    def start_night(self, camera: DemoCamera, *, window_minutes: float = HANG_S / 60) -> None:
        """Start its night process."""
        window = ("--window-minutes", str(window_minutes))
        self.programs.start(night_of(camera), "trainer.night", "--config", str(camera.config), *window)

    def finish_night(self, camera: DemoCamera) -> int | None:
        """Wait for the end of its night process; its exit code, None where it goes on."""
        return self.programs.wait(night_of(camera), timeout_s=60)

    def stop_night(self, camera: DemoCamera) -> int | None:
        """Ask its night process to end; its exit code, None where it goes on."""
        os.kill(self.night_pid(camera), signal.SIGTERM)
        return self.finish_night(camera)

    def start_round(self, *options: str) -> subprocess.Popen[str]:
        """Start ``sitecam-server round``."""
        command = [sys.executable, "-m", "server.cli", "--config", str(self._config), "round", *options]
        self._rounds += 1
        with (self.root / "logs" / f"round-{self._rounds}.err").open("w") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def round_said(self) -> str:
        """What the last such command said beside its result."""
        return (self.root / "logs" / f"round-{self._rounds}.err").read_text()

    def finish_round(self, process: subprocess.Popen[str]) -> Held:
        """Wait for its end and read the registry."""
        try:
            printed, _ = process.communicate(timeout=HANG_S)
        finally:
            process.kill()
            process.wait()
        # It still tells the cameras that the night is over: the next night must not hear that.
        wait_until(lambda: not self.running("flwr-serverapp"), what="the ServerApp's end", timeout_s=90)
        registry, number = self.registry, self.night_id
        night = registry.night(number)
        return Held(
            exit_code=process.returncode,
            printed=printed,
            outcome=night.outcome,
            message=night.message,
            events=[text for _, text in registry.events(number)],
            verdicts=registry.verdicts(number),
            figures=dict(night.figures),
        )

    def hold_night(self, *options: str) -> Held:
        """One night with every camera's night process, from its start to its end."""
        for camera in self.cameras:
            self.start_night(camera)
        held = self.finish_round(self.start_round(*options))
        for camera in self.cameras:
            self.finish_night(camera)
        return held

    def kill_superlink(self) -> None:
        """SIGKILL for it and all that it started, as systemd gives to a unit's whole control group."""
        everything = family(self.superlink_pid)
        for pid in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, everything)), what="the SuperLink's end")

    def restart_superlink(self) -> None:
        """Start it again, as systemd does."""
        self.superlink.stop()  # of what was killed there is nothing left to end
        self.superlink.start()

    @contextlib.contextmanager
    def reached_at(self, camera: DemoCamera, port: int) -> Iterator[None]:
        """For a while a camera believes that the server is at another port."""
        facts = CameraPaths(camera.state).fleet / "fleet.json"
        real = facts.read_text(encoding="utf-8")
        facts.write_text(json.dumps({**json.loads(real), "port": port}), encoding="utf-8")
        yield
        facts.write_text(real, encoding="utf-8")

    # Looking

    @property
    def night_id(self) -> int:
        """Of the newest night in the registry; 0 where there is none."""
        return next((night.id for night in self.registry.nights(limit=1)), 0)

    def events(self) -> list[str]:
        """What was said in the newest night so far."""
        return [text for _, text in self.registry.events(self.night_id)]

    def wait_for_event(self, words: str, *, timeout_s: float = 120, night: int = 0) -> None:
        """Wait until the newest night (or one newer than ``night``) has an event with these words."""
        wait_until(
            lambda: self.night_id > night and any(words in text for text in self.events()),
            what=f"an event {words!r}",
            timeout_s=timeout_s,
        )

    @property
    def superlink_pid(self) -> int:
        """Of the running one."""
        return self._own("server.superlink_process", "flower-superlink")

    def page(self, camera: DemoCamera) -> dict[str, Any]:
        """What its page says."""
        state = page_state(camera)
        assert state is not None, self.programs.last_words(camera.name)
        return state

    def status(self, camera: DemoCamera) -> NightStatus:
        """What its night process says."""
        return read_night_status(CameraPaths(camera.state).night_status)

    def ledger(self, camera: DemoCamera) -> list[dict[str, Any]]:
        """What left it."""
        text = CameraPaths(camera.state).ledger.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def running(self, *words: str) -> list[str]:
        """Command lines of processes that name this site's folder, and ``words``."""
        return [line for line in self.processes().values() if all(word in line for word in words)]

    def night_pid(self, camera: DemoCamera) -> int:
        """Of its night process; the tasks that it forks have the same command line and another parent."""
        return self._own(f"trainer.night --config {camera.config}")

    def _own(self, *either: str) -> int:
        """The process that this one started whose command line has one of these words."""
        parents = parents_by_pid()
        return next(
            pid
            for pid, line in self.processes().items()
            if parents.get(pid) == os.getpid() and any(words in line for words in either)
        )

    def kill_what_is_left(self) -> None:
        """End what should have ended by itself, so that a failed test leaves nothing behind."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Process id and command line of everything that names this site's folder."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue  # it ended while we looked
            if f"{self.root}/" in line and int(path.parent.name) != os.getpid():
                found[int(path.parent.name)] = line
        return found

    # Making

    def _lay_out(self, number: int) -> DemoCamera:
        name = f"gate-{number}"
        pictures = draw_folders(self.root / "pictures" / name, labels=parts.LABELS, seed=number, train=8, test=5)
        port = free_port()
        config = self.root / f"{name}.toml"
        config.write_text(
            f'state_dir = "{name}"\n[camera]\nname = "{name}"\nsource = "folder"\n'
            f"path = {json.dumps(str(pictures))}\n[page]\nport = {port}\n[model]\nsoak_decisions = 5\n",
            encoding="utf-8",
        )
        return DemoCamera(name, config, self.root / name, pictures, f"https://127.0.0.1:{port}/")

    def _enrol(self, camera: DemoCamera) -> None:
        config = ("--config", str(camera.config))
        key = self.programs.run("appliance.cli", *config, "key")
        bundle = camera.config.with_suffix(".bundle")
        enrol_camera(self.settings, self.superlink, name=camera.name, public_key=Path(key), bundle=bundle)
        self.programs.run("appliance.cli", *config, "enrol", str(bundle))
        self.programs.run("appliance.cli", *config, "import", str(camera.pictures), "--label-from", "folders")


@contextlib.contextmanager
def as_flower_ships_it() -> Iterator[None]:
    """Sites that start in here run flower-superlink itself, not our process around it."""
    ours = SuperLink.command

    def command(link: SuperLink) -> list[str]:
        options = itertools.dropwhile(lambda word: not word.startswith("--"), ours(link))
        return [flower.program("flower-superlink"), *options]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SuperLink, "command", command)
        yield


def night_of(camera: DemoCamera) -> str:
    """The name of its night process."""
    return f"{camera.name}-night"


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel hands out by itself."""
    while True:
        port = random.randrange(15_000, 30_000)  # noqa: S311  # no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_until(good: Callable[[], bool], *, what: str, timeout_s: float = 60) -> None:
    """Wait for something that other processes do; fail with ``what`` where it doesn't come."""
    ends = time.monotonic() + timeout_s
    while not good():
        assert time.monotonic() < ends, f"{what} did not come within {timeout_s:.0f} s"
        time.sleep(0.1)
