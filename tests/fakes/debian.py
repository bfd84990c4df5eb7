"""A Debian machine in a folder: apt, systemd, pip and our own commands are played; files are real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.errors import InstallError
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout
from appliance.installing.placing import Places
from appliance.installing.roles import Wishes
from appliance.installing.run import Done

REPOSITORY = Path(__file__).resolve().parents[2]
_MADE = {  # what our own commands leave in the state folders
    ("sitecam", "enrol"): ("sitecam/fleet/fleet.json",),
    ("sitecam-server", "init"): ("sitecam-server/models/current", "sitecam-server/tls.pem"),
    ("sitecam-fleet", "password"): ("sitecam-server/keys/page-password.json",),
}
_SAID = {  # answers to questions, by the question's last words
    "--print-architecture": Done(0, "amd64\n"),
    "--property=NTPSynchronized --value": Done(0, "yes\n"),
    "--property=Timezone --value": Done(0, "Europe/Berlin\n"),
    "cat nginx.service": Done(1),
    "systemctl --version": Done(0, "systemd 257 (257.9)\n"),
    "code --approve --json": Done(0, json.dumps({"text": "K7QF-2M9X-4PTR"})),
}


SURE = Wishes(name="gate-1", yes=True, clock_is_right=True)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything on a machine: kind, content, mode and time of its last change."""
    return {
        str(path.relative_to(root)): (
            path.is_symlink() and str(path.readlink()),
            path.is_file() and path.read_bytes(),
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in root.rglob("*")
    }


class FakeDebian:
    """A :class:`appliance.installing.run.Runner` whose commands change a small world.

    Args:
        root: The machine's root folder, filled here.
        dry_run: As for the real one; a command that changes something then must not come.
    """

    def __init__(self, root: Path, *, dry_run: bool = False) -> None:
        self.root = root
        self.dry_run = dry_run
        self.commands: list[list[str]] = []
        self.said: list[str] = []
        self.shown: list[str] = []
        self.noted: list[str] = []
        self.packages = {"ca-certificates"}
        self.absent: set[str] = set()
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.failing: dict[str, Done] = {}
        self.broken: Callable[[Path], bool] = lambda _: False  # whether services of this release fall over
        self.on: dict[str, Callable[[list[str]], None]] = {}
        for folder in ("etc", "var/log", "run/systemd/system", "proc", "sys/fs/cgroup"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
        (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\nrender:x:105:\n")
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (root / "proc/meminfo").write_text("MemTotal:        3900000 kB\nSwapTotal:       200000 kB\n")
        (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory pids\n")

    def run(
        self,
        command: Sequence[str],
        *,
        say: str = "",
        given: str | None = None,
        environment: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        check: bool = True,
        live: bool = False,
        deadline_s: float = 0.0,
    ) -> Done:
        del given, environment, live, deadline_s
        words = list(command)
        shown = " ".join(words)
        for secret in secrets:
            shown = shown.replace(secret, "********")
        self.noted.append(shown)
        if self.dry_run:
            self.said.append(f"would run: {shown}")
            return Done(0)
        self.commands.append(words)
        if say:
            self.said.append(say)
        done = next((done for key, done in self.failing.items() if key in " ".join(words)), None)
        if done is None:
            done = self._do(words)
        if check and not done.ok:
            raise InstallError(f"{say or words[0]} failed: {done.errors}")
        return done

    def ask(self, command: Sequence[str], *, deadline_s: float = 0.0) -> Done:
        del deadline_s
        words = list(command)
        done = next((done for key, done in self.failing.items() if key in " ".join(words)), None)
        return done or self._answer(words)

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, text: str) -> None:
        self.shown.append(text)

    def note(self, text: str) -> None:
        self.noted.append(text)

    def fetch(self, url: str) -> int | None:
        """Pages answer while their service runs."""
        service = "sitecam-camera.service" if ":4912" in url else "sitecam-fleet.service"
        return 200 if service in self.active else None

    def _do(self, words: list[str]) -> Done:
        for key, effect in self.on.items():
            if key in words:
                effect(words)
        if "apt-get" in words and "install" in words:
            self.packages |= set(words[words.index("--no-install-recommends") + 1 :])
        elif words[1:3] == ["-m", "venv"]:
            Path(words[-1], "bin").mkdir(parents=True)
        elif words[0] == "systemctl":
            self._systemctl([word for word in words[1:] if not word.startswith("--")])
        elif words[0] == "systemd-sysusers":
            users = [line.split()[1] for line in Path(words[1]).read_text().splitlines() if line.startswith("u ")]
            with (self.root / "etc/passwd").open("a") as file:
                file.writelines(f"{user}:x:990:990::/:/bin/false\n" for user in users)
        for name in _MADE.get((Path(words[0]).name, words[1]), ()):
            path = self.root / "var/lib" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        return Done(0, "{}")

    def _systemctl(self, words: list[str]) -> None:
        verb, names = words[0], set(words[1:])
        if verb in ("enable", "disable"):
            self.enabled = self.enabled | names if verb == "enable" else self.enabled - names
        if verb in ("start", "restart") and not self.broken((self.root / "opt/sitecam/current").resolve()):
            self.active |= {name for name in names if name.startswith("sitecam-")}
        if verb in ("stop", "disable"):
            self.active -= names

    def _answer(self, words: list[str]) -> Done:
        name = words[-1]
        if words[0] == "dpkg-query":
            return Done(0, "".join(f"installed {word}\n" for word in words if word in self.packages))
        if words[0] == "apt-cache":
            return Done(0, f"{name}:\n  Candidate: {'(none)' if name in self.absent else '1.0'}\n")
        if words[:2] == ["systemctl", "is-active"]:
            return Done(0 if name in self.active else 3)
        if words[:2] == ["systemctl", "is-enabled"]:
            return Done(0 if name in self.enabled else 1)
        return next((said for key, said in _SAID.items() if " ".join(words).endswith(key)), Done(0))


def make_source(folder: Path, *, version: str = "1.0.0", units: str = "") -> Path:
    """A small Sitecam to install: real folders, few files.

    Args:
        folder: Made here.
        version: What it says it is.
        units: Added to the camera's unit.
    """
    for name in ("appliance", "trainer", "server", "datasets", "systemd", "locks"):
        (folder / name).mkdir(parents=True)
    (folder / "appliance/__init__.py").write_text(f'__version__ = "{version}"\n')
    (folder / "appliance/__pycache__").mkdir()
    (folder / "appliance/__pycache__/x.pyc").write_bytes(b"0")
    for name in ("trainer", "server", "datasets"):
        (folder / name / "__init__.py").write_text("")
    for name in ("install.sh", "pyproject.toml", "README.md"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    install = "[Install]\nWantedBy=multi-user.target\n"
    for name in ("sitecam-camera.service", "sitecam-night.timer", "sitecam-superlink.service"):
        (folder / "systemd" / name).write_text(f"[Unit]\n{units}\n{install}")
    for name in ("sitecam-fleet.service", "sitecam-proxy.service", "sitecam-round.timer"):
        (folder / "systemd" / name).write_text(install)
    for name in ("sitecam-night.service", "sitecam-round.service"):
        (folder / "systemd" / name).write_text("[Service]\nType=oneshot\n")
    for name in ("build", "camera", "night", "server"):
        (folder / f"locks/{name}.txt").write_text("x==1 --hash=sha256:0\n")
    return folder


def installation(machine: FakeDebian, source: Path) -> Installation:
    """A run of the installer on that machine, with what was recorded."""
    run = Installation(
        Layout(machine.root),
        machine,
        Places(machine, ids=lambda _: (machine.root.stat().st_uid, machine.root.stat().st_gid)),
        source=source,
        fetch=machine.fetch,
        pause=lambda _: None,
    )
    run.load()
    return run
