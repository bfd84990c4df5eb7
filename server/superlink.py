"""Flower's SuperLink as we run it: TLS, registered nodes only, loopback, a database on disk, silent to others."""

from __future__ import annotations

import json
import logging
import os
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from flwr.proto.control_pb2 import ListNodesResponse
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it ships none

from appliance.errors import NightError
from appliance.files import write_atomically
from appliance.join_code import pem_fingerprint
from appliance.ports import free_port
from server.certificates import check_certificate
from server.config import CONFIG_VARIABLE, ServerSettings
from server.paths import ServerPaths
from trainer import flower

logger = logging.getLogger(__name__)

_CONNECTION = "fleet"
_APP = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "sitecam-night"
version = "1.0.0"
description = "Names the apps that are installed on server and cameras; holds no code"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "sitecam"

[tool.flwr.app.components]
serverapp = "server.rounds:app"
clientapp = "trainer.client:app"

[tool.flwr.app.config]
night = 0
"""


@dataclass(frozen=True)
class RegisteredNode:
    """A camera as the SuperLink knows it.

    Attributes:
        node_id: Flower's.
        fingerprint: Of its public key, as :func:`appliance.join_code.key_fingerprint` gives it.
        unregistered: Its key is refused, for good.
    """

    node_id: int
    fingerprint: str
    unregistered: bool


class SuperLink:
    """A running SuperLink, and what we ask of it.

    Args:
        settings: The server's.
        config: The file they were read from, for the ServerApp's process.
    """

    def __init__(self, settings: ServerSettings, config: Path) -> None:
        self._settings = settings
        self._config = config.resolve()
        self._paths = ServerPaths(settings.state_dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port, as programs on this machine reach it."""
        return flower.endpoint(self._settings.superlink.listen, self._settings.superlink.port)

    @property
    def log(self) -> Path:
        """What it printed."""
        return self._paths.flower / "superlink.log"

    def command(self) -> list[str]:
        """The command line, for us and for the systemd unit alike."""
        return [
            *(sys.executable, "-m", "server.superlink_process"),
            *("--ssl-ca-certfile", str(self._paths.ca_certificate)),
            *("--ssl-certfile", str(self._paths.tls_certificate)),
            *("--ssl-keyfile", str(self._paths.tls_key)),
            *("--database", str(self._paths.flower / "superlink.sqlite")),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            *("--host", self._settings.superlink.listen),
            *("--port", str(self._settings.superlink.port)),
        ]

    def environment(self) -> dict[str, str]:
        """Its environment, and so that of the ServerApp it starts."""
        return flower.environment(self._paths.flower, **{CONFIG_VARIABLE: str(self._config)})

    def start(self, *, deadline_s: float = 60) -> None:
        """Start it and wait until it answers.

        Raises:
            PortTakenError: Another program listens there.
            CertificateError: Its TLS files can't be used.
            NightError: It did not come up.
        """
        self.check()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ends = time.monotonic() + deadline_s
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise NightError(
                    f"The SuperLink ended with status {self._process.returncode}",
                    means="No camera can train",
                    do=f"Read {self.log}",
                )
            if self.answers():
                return
            time.sleep(0.2)
        self.stop()
        raise NightError(f"The SuperLink did not answer within {deadline_s:.0f} s", do=f"Read {self.log}")

    def check(self) -> None:
        """Make sure that it can start, and write the files that it needs.

        Raises:
            PortTakenError: Another program listens there.
            CertificateError: Its TLS files can't be used.
        """
        check_certificate(self._paths)
        free_port(
            self._settings.superlink.listen,
            self._settings.superlink.port,
            means="The SuperLink can't start; perhaps it is running already",
            do="Stop the other program, or set another superlink.port in sitecam-server.toml",
        )
        self.prepare()

    def stop(self) -> None:
        """End it with everything that it started."""
        if self._process is None:
            return
        started = _descendants(self._process.pid)  # Flower gives its executor and the ServerApp sessions of their own
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            logger.warning("The SuperLink did not end by itself and was killed")
            self._process.kill()
        self._process.wait()
        for pid, born in started.items():
            if _born(pid) == born:  # else it has ended, and the number may be another program's by now
                os.kill(pid, signal.SIGKILL)
        ends = time.monotonic() + 5
        while any(_born(pid) == born for pid, born in started.items()) and time.monotonic() < ends:
            time.sleep(0.05)
        self._process = None

    def __enter__(self) -> SuperLink:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def answers(self) -> bool:
        """Whether something with our certificate answers on the port."""
        try:
            context = ssl.create_default_context(cafile=str(self._paths.ca_certificate))
            httpx.get(f"https://{self.address}/", verify=context, timeout=2, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    def prepare(self) -> None:
        """Write what Flower's command line and the app need; safe to repeat."""
        home = self._paths.flower
        (home / "app").mkdir(parents=True, exist_ok=True)
        write_atomically(home / "app" / "pyproject.toml", _APP.encode())
        connection = (
            f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
            f'address = "{self.address}"\nroot-certificates = {json.dumps(str(self._paths.ca_certificate))}\n'
            "insecure = false\n"
        )
        write_atomically(home / "config.toml", connection.encode())

    def register(self, public_key: Path, name: str) -> int:
        """Let a camera's key in; return its node id.

        Raises:
            NightError: The SuperLink refused.
        """
        answer = self._flwr("supernode", "register", str(public_key), _CONNECTION, "--name", name)
        return int(answer["node-id"])

    def unregister(self, node_id: int) -> None:
        """Let a camera's key in no more: its next message is refused.

        Flower never takes a key again that was once unregistered.

        Raises:
            NightError: The SuperLink refused: it doesn't know the node, or knows it no more.
        """
        self._flwr("supernode", "unregister", str(node_id), _CONNECTION)

    def registered(self) -> list[RegisteredNode]:
        """Every key that was ever let in.

        Asked over HTTP, because ``flwr supernode list`` doesn't print keys.

        Raises:
            NightError: The SuperLink doesn't answer, or not as we know it.
        """
        kind = "application/protobuf"
        try:
            context = ssl.create_default_context(cafile=str(self._paths.ca_certificate))
            answer = httpx.post(
                f"https://{self.address}/v1/control/list-nodes",
                headers={"Content-Type": kind, "Accept": kind},
                verify=context,
                timeout=30,
                trust_env=False,
            ).raise_for_status()
            nodes = ListNodesResponse.FromString(answer.content).nodes_info
            return [
                RegisteredNode(node.node_id, pem_fingerprint(node.public_key), node.status == "unregistered")
                for node in nodes
            ]
        except (httpx.HTTPError, OSError, DecodeError, ValueError) as error:
            raise NightError(
                f"The SuperLink doesn't say which cameras it knows ({error})",
                do=f"Is it running? Read {self.log}",
            ) from error

    def start_run(self, night: int) -> int:
        """Start the ServerApp for a night; return Flower's run id.

        Raises:
            NightError: The SuperLink refused.
        """
        app = str(self._paths.flower / "app")
        answer = self._flwr("run", app, _CONNECTION, "--run-config", f"night={night}")
        return int(answer["run-id"])

    def run_status(self, run: int) -> str:
        """Flower's word for a run, e.g. "running" or "finished:completed".

        Raises:
            NightError: The SuperLink doesn't answer.
        """
        answer = self._flwr("ls", _CONNECTION, "--run-id", str(run))
        return str(answer["runs"][0]["status"])

    def stop_runs(self) -> None:
        """End what Flower believes to be going on.

        A ServerApp that was killed counts as running for another minute, and so long its cameras wait for it.

        Raises:
            NightError: The SuperLink doesn't answer.
        """
        for run in self._flwr("ls", _CONNECTION)["runs"]:
            if not str(run["status"]).startswith("finished"):
                self._flwr("stop", str(run["run-id"]), _CONNECTION)

    def _flwr(self, *arguments: str) -> dict[str, Any]:
        command = [flower.program("flwr"), *arguments, "--format", "json"]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=120, check=False)
        start = done.stdout.find("{")
        try:
            answer = json.loads(done.stdout[start:])
            if not answer["success"]:
                raise ValueError(answer.get("error-message", "no reason given"))
        except (ValueError, KeyError) as error:
            words = " ".join(f"{error} {done.stderr}".split())[-600:]
            raise NightError(
                f"flwr {' '.join(arguments[:2])} failed: {words}",
                do=f"Is the SuperLink running? Read {self.log}",
            ) from error
        return dict(answer)


def _descendants(pid: int) -> dict[int, str]:
    """Process id and time of birth of everything that a process started, directly or not."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found: dict[int, str] = {}
    fresh = {pid}
    while fresh:
        fresh = {child for child, stat in parents.items() if stat and int(stat[1]) in fresh} - set(found)
        found |= {child: parents[child][19] for child in fresh}
    return found


def _born(pid: int) -> str | None:
    """When a process was born; None where it has ended, reaped or not."""
    stat = _stat(pid)
    return stat[19] if stat and stat[0] != "Z" else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on (proc(5)); none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
