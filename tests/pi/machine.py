"""A machine that boots: an overlay copy of an image, its own systemd as process 1 under systemd-nspawn."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from appliance.errors import InstallError
from tests.pi.network import Wire
from tests.pi.surroundings import look_around

_BOOT_S = 180.0
_OFF_S = 60.0
_GROUPS = Path("/sys/fs/cgroup")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Said:
    """What a command inside a machine said.

    Attributes:
        status: Its exit code.
        output: What it wrote, errors among it.
        took_s: How long it took.
    """

    status: int
    output: str
    took_s: float

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0


class Machine:
    """One machine; a context manager, at whose end nothing of it is left but its files, where they were asked for.

    Args:
        name: Of the machine: its host name, and its folder's.
        layers: Read-only folders, the uppermost first; the last is an image.
        work: Folder for everything that is made.
        wire: Its place in a network of the test's; None shares the host's network.
        binds: Further folders of the host that it sees, read-only.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[Path],
        work: Path,
        *,
        wire: Wire | None = None,
        binds: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.wire = wire
        self._layers = [path.resolve() for path in layers]
        self._folder = work / "machines" / name
        self._binds = (*look_around().folders, *binds)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._mounted = False
        self._tag = f"sitecam-{os.getpid()}-{name}"

    @property
    def root(self) -> Path:
        """Its root folder, seen from outside; also while it is off."""
        return self._folder / "root"

    @property
    def console(self) -> Path:
        """What it wrote on its console."""
        return self._folder / "console.log"

    def __enter__(self) -> Self:
        if self._folder.exists():
            shutil.rmtree(self._folder)  # left behind by a run that was killed, and not mounted any more
        for part in ("upper", "work", "root"):
            (self._folder / part).mkdir(parents=True)
        lower = ":".join(map(str, self._layers))
        options = f"lowerdir={lower},upperdir={self._folder / 'upper'},workdir={self._folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)], check=True)
        self._mounted = True
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        hosts = self.root / "etc/hosts"
        hosts.write_text(hosts.read_text().replace("raspberrypi", self.name))
        proxy = self.wire.proxy if self.wire else ""
        (self.root / "etc/pip.conf").write_text(look_around().pip_conf(proxy))
        if proxy:
            (self.root / "etc/apt/apt.conf.d/99proxy").write_text(f'Acquire::http::Proxy "{proxy}";\n')
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        try:
            self.cut_power()
        finally:
            if self._mounted:
                subprocess.run(["umount", str(self.root)], check=True)
                self._mounted = False
        shutil.rmtree(self._folder)

    def boot(self) -> float:
        """Switch it on and wait until it has started; return the seconds that took.

        Raises:
            InstallError: It didn't come up.
        """
        started_s = time.monotonic()
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self._tag[:60]}"]
        command += ["--register=no", "--keep-unit", "--console=pipe", "--resolv-conf=off", "--timezone=off"]
        command += [f"--hostname={self.name}", "--link-journal=no", "--capability=CAP_NET_ADMIN"]
        command += [f"--bind-ro={path}" for path in self._binds]
        if self.wire:
            command.append(f"--network-namespace-path=/run/netns/{self.wire.namespace}")
        # each in a control group of its own, or two machines would share one
        enter = "".join(f"mkdir -p {group}; echo $$ >{group}/cgroup.procs; " for group in self._control_groups())
        script = f"{enter}exec {shlex.join([*command, '--boot', 'systemd.mask=console-getty.service'])}"
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["/bin/sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,  # an interrupt of the test ends it by our hand, in order
            )
        end_s = started_s + _BOOT_S
        while not self._find_leader():
            self._still_there(end_s)
            time.sleep(0.1)
        while self.run("systemctl is-system-running", check=False, deadline_s=60).output.strip() not in (
            "running",
            "degraded",
        ):
            self._still_there(end_s)
            time.sleep(0.5)
        return time.monotonic() - started_s

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        deadline_s: float = 600.0,
        environment: Mapping[str, str] | None = None,
        given: str | None = None,
    ) -> Said:
        """Run a line of shell inside, as root.

        Raises:
            InstallError: It failed, and ``check`` is set.
            subprocess.TimeoutExpired: It was not done in time; it is ended.
        """
        started_s = time.monotonic()
        done = subprocess.run(
            [*self._into(environment), "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL if given is None else None,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
        )
        said = Said(done.returncode, done.stdout, time.monotonic() - started_s)
        if check and not said.ok:
            raise InstallError(f"{self.name}: {command} ended with {said.status}: {said.output[-3000:]}")
        return said

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a folder of the host to a path inside that is not in memory (/tmp and /run are)."""
        into = self.root / target.lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, into)

    def write(self, path: str, text: str) -> None:
        """Write a file inside, likewise."""
        into = self.root / path.lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        into.write_text(text, encoding="utf-8")

    def power_off(self) -> float:
        """Shut it down in order; return the seconds that took."""
        started_s = time.monotonic()
        if self._nspawn is not None:
            self.run("systemctl poweroff", check=False)
            try:
                self._nspawn.wait(_OFF_S)
            except subprocess.TimeoutExpired:
                self.cut_power()
            self._gone()
        return time.monotonic() - started_s

    def cut_power(self) -> None:
        """End all of it at once, with no goodbye; what it had written stays as it is."""
        if self._nspawn is None:
            return
        if self._leader and self._nspawn.poll() is None:
            os.kill(self._leader, signal.SIGKILL)  # process 1 of its namespace: the kernel ends all the others
        elif self._nspawn.poll() is None:
            self._nspawn.terminate()
        try:
            self._nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._gone()

    def keep_as(self, layer: Path) -> None:
        """Keep what it wrote since it was made, as a layer for other machines; it must be off."""
        made = layer.with_name(f".{layer.name}.part")
        for old in (made, layer):
            if old.exists():
                shutil.rmtree(old)
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._folder / "upper"), str(made)], check=True)
        made.rename(layer)

    def _into(self, environment: Mapping[str, str] | None) -> list[str]:
        if not self._leader:
            raise InstallError(f"{self.name} is off")
        variables = {"HOME": "/root", "USER": "root", "TERM": "xterm", "LANG": "C.UTF-8", "PATH": _PATH}
        if self.wire:
            variables |= dict.fromkeys(("http_proxy", "https_proxy"), self.wire.proxy)
            variables["no_proxy"] = self.wire.no_proxy
        variables |= environment or {}
        words = [f"{name}={value}" for name, value in variables.items()]
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        enter = ["nsenter", f"--target={self._leader}", *namespaces, f"--wd=/proc/{self._leader}/root/root", "--"]
        return [*enter, "/usr/bin/env", "-i", *words]

    def _control_groups(self) -> list[Path]:
        names = [_GROUPS] if (_GROUPS / "cgroup.controllers").exists() else [_GROUPS / "unified", _GROUPS / "systemd"]
        return [path / self._tag for path in names if path.is_dir()]

    def _find_leader(self) -> bool:
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for word in children.read_text().split() if children.exists() else []:
            name = Path(f"/proc/{word}/comm")
            if name.exists() and name.read_text().strip() == "systemd":
                self._leader = int(word)
                return True
        return False

    def _still_there(self, end_s: float) -> None:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None or time.monotonic() > end_s:
            raise InstallError(f"{self.name} did not start: {self.console.read_text(errors='replace')[-3000:]}")

    def _gone(self) -> None:
        self._nspawn, self._leader = None, 0
        for group in self._control_groups():
            for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                _remove_group(folder)
            _remove_group(group)


def _remove_group(folder: Path) -> None:
    """A group lives on for a moment after its last process."""
    for _ in range(50):
        if not folder.is_dir():
            return
        try:
            folder.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise InstallError(f"{folder} still has processes")
