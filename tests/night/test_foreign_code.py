"""A server that sends hostile code along: a camera doesn't run it, where an ordinary SuperNode does.

No bound here is a measure of speed: each only ends a test that hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.fleet import make_node_key
from appliance.paths import CameraPaths
from server.roster import Roster
from tests.fakes.processes import family
from tests.night.running import HANG_S, TinySite, free_port, wait_until
from trainer import flower

pytestmark = pytest.mark.night

_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "sitecam-night"
version = "6.6.6"
description = "An app that brings its own trainer"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "sitecam"

[tool.flwr.app.components]
serverapp = "server_side:app"
clientapp = "trainer.client:app"
"""

_SERVER_SIDE = """\
import json
import time
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    ends = time.monotonic() + {hang_s}
    while not list(grid.get_node_ids()) and time.monotonic() < ends:
        time.sleep(0.5)
    messages = [Message(RecordDict(), node, "query.status", ttl={hang_s}) for node in grid.get_node_ids()]
    answers = {{}}
    for reply in grid.send_and_receive(messages, timeout={hang_s}):
        node = str(reply.metadata.src_node_id)
        if reply.has_error():
            answers[node] = {{"error": reply.error.reason}}
        else:
            answers[node] = {{k: dict(v) for k, v in reply.content.config_records.items()}}
    Path({answers!r}).write_text(json.dumps(answers))
"""

_HOSTILE = """\
import sys
from pathlib import Path

with Path({marker!r}).open("a") as file:
    file.write(" ".join(sys.argv) + "\\n")

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("status")
def status(message, context):
    return Message(RecordDict({{"config": ConfigRecord({{"status": "yours"}})}}), reply_to=message)
"""


@dataclass(frozen=True)
class HostileApp:
    """An app bundle's source.

    Attributes:
        folder: It.
        marker: Its ``trainer/client.py`` writes here when it is imported, and by which program.
        answers: Its ServerApp writes here what the nodes answered.
    """

    folder: Path
    marker: Path
    answers: Path

    @staticmethod
    def write(root: Path) -> HostileApp:
        app = HostileApp(root / "app", root / "marker", root / "answers.json")
        (app.folder / "trainer").mkdir(parents=True)
        (app.folder / "pyproject.toml").write_text(_PROJECT)
        (app.folder / "server_side.py").write_text(_SERVER_SIDE.format(answers=str(app.answers), hang_s=HANG_S))
        (app.folder / "trainer" / "__init__.py").write_text("")
        (app.folder / "trainer" / "client.py").write_text(_HOSTILE.format(marker=str(app.marker)))
        return app

    def run(self, site: TinySite) -> dict[str, dict[str, dict[str, str]]]:
        """Run it on the site's SuperLink; what the nodes that were online answered, by node id."""
        self.answers.unlink(missing_ok=True)
        done = subprocess.run(
            [flower.program("flwr"), "run", str(self.folder), "fleet"],
            env=site.superlink.environment(),
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        wait_until(self.answers.exists, what="the nodes' answers", timeout_s=HANG_S)
        wait_until(lambda: not site.running("flwr-serverapp"), what="the ServerApp's end", timeout_s=HANG_S)
        return dict(json.loads(self.answers.read_text()))

    def ran_in(self) -> list[str]:
        """The programs that imported its code."""
        return self.marker.read_text().splitlines() if self.marker.exists() else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[TinySite]:
    with TinySite(tmp_path_factory.mktemp("foreign"), tiny_backbone, cameras=1) as site:
        yield site
    site.kill_what_is_left()


@contextlib.contextmanager
def ordinary_node(site: TinySite, root: Path) -> Iterator[int]:
    """A SuperNode as Flower's own handbook starts it; its node id."""
    paths = CameraPaths(root / "ordinary")
    node = site.superlink.register(make_node_key(paths), "ordinary")
    command = [
        flower.program("flower-supernode"),
        *("--superlink", site.superlink.address),
        *("--root-certificates", str(site.paths.ca_certificate)),
        *("--auth-supernode-private-key", str(paths.node_key)),
        *("--host", "127.0.0.1", "--port", str(free_port())),
    ]
    with (root / "ordinary.log").open("wb") as log:
        process = subprocess.Popen(command, env=flower.environment(root / "home"), stdout=log, stderr=log)
    try:
        yield node
    finally:
        started = family(process.pid)
        process.terminate()
        process.wait(30)
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_camera_answers_with_its_own_app_and_never_touches_the_servers(site: TinySite, tmp_path: Path) -> None:
    (camera,) = site.cameras
    app = HostileApp.write(tmp_path)
    (node,) = (enrolled.node_id for enrolled in Roster(site.paths.registry).cameras())
    site.start_night(camera)
    try:
        answers = app.run(site)
    finally:
        exit_code = site.stop_night(camera)
    status = json.loads(answers[str(node)]["config"]["status"])
    assert (status["name"], status["version"]) == (camera.name, 1)
    assert app.ran_in() == []
    unpacked = [path for path in camera.state.rglob("*") if "server_side" in path.name or path.name == "client.py"]
    assert unpacked == []
    assert (exit_code, site.status(camera).message) == (0, "Stopped before the server had closed the night")
    assert [line["kind"] for line in site.ledger(camera)] == ["query.status", "total"]


def test_that_code_does_run_where_nobody_prevents_it(site: TinySite, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    app = HostileApp.write(tmp_path)
    with ordinary_node(site, tmp_path) as node:
        answers = app.run(site)
    assert answers[str(node)] == {"config": {"status": "yours"}}
    assert any("flwr-clientapp" in line for line in app.ran_in())
