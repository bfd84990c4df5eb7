"""The cell that an .eim runs in: what it can't do there, and that everything else is as before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.config import CameraSettings, MqttSettings, Settings
from appliance.eim import cell as cells
from appliance.eim.cell import Cell, CellState, cell_state
from appliance.eim.child import Child
from appliance.eim.runner import start_impulse
from appliance.errors import ImpulseError, NotAnImpulseError
from tests.fakes.eim_shaped import write_shaped
from tests.fakes.eim_traces import Traces, runs, segments_of

PROJECT = Path(__file__).resolve().parents[2]
GRID = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)

# What the programs below begin with: told(x) writes x to where the socket would be.
PROGRAM = """#!{python} -IS
import errno, json, os, socket, sys
def told(value):
    with open(sys.argv[1], "w") as file: json.dump(value, file)
def tried(function):
    try: return function()
    except OSError as error: return errno.errorcode[error.errno]
"""


@pytest.fixture(scope="module")
def here() -> CellState:
    """Whether this machine allows a cell."""
    return cell_state()


@pytest.fixture(autouse=True)
def _unknown(here: CellState, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  asked before it is forgotten
    monkeypatch.setattr(cells, "_state", None)


@pytest.fixture
def cell(tmp_path: Path, here: CellState) -> Cell:
    """Of a camera whose state folder has a picture, a key and a shelf of models."""
    if not here.works:
        pytest.skip(here.why)
    state = tmp_path / "state"
    for name in ("store/1.jpg", "keys/node.key", "models/current", "ledger.jsonl"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text("secret")
    (tmp_path / "broker").write_text("password")
    return Cell.of(Settings(state, CameraSettings("test"), mqtt=MqttSettings(password_file=tmp_path / "broker")))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Runs lines of Python as an .eim from the shelf; gives what they told, or the child if it runs on."""
    children = []

    def start(code: str, cell: Cell | None, *, memory_bytes: int = 0) -> Any:
        program = tmp_path / "state/models/m.eim"
        program.write_text(PROGRAM.format(python=sys.executable) + code)
        program.chmod(0o755)
        path = tmp_path / "told.json"
        path.unlink(missing_ok=True)
        child = Child(program, path, deadline=time.monotonic() + 60, memory_bytes=memory_bytes, cell=cell)
        children.append(child)
        if "told(" not in code:
            return child
        assert child.wait(60) == 0, child.last_words()
        return json.loads(path.read_text())

    yield start
    for child in children:
        child.end()


def test_what_a_camera_hides_and_keeps(tmp_path: Path) -> None:
    camera = CameraSettings("test", source="folder", path=tmp_path / "replay")
    hidden = Cell.of(Settings(tmp_path / "state", camera)).hide
    assert {tmp_path / "state", tmp_path / "replay", Path("/run"), Path("/etc/sitecam")} <= {*hidden}
    assert Path() not in hidden  # settings that were left out


def test_what_holds_the_python_that_runs_is_never_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", "/media/stick/venv")
    hidden = Cell.of(Settings(tmp_path, CameraSettings("test"))).hide
    assert Path("/media") not in hidden
    assert Path("/mnt") in hidden


def test_there_is_no_network_in_the_cell(cell: Cell, run: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        name = f"sitecam-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        code = (
            f"there = ('127.0.0.1', {listener.getsockname()[1]})\n"
            "def loopback(): socket.create_connection(there, 5); return 'reached'\n"
            f"def abstract(): socket.socket(socket.AF_UNIX).connect('\\0{name}'); return 'reached'\n"
            "told([tried(loopback), tried(abstract), [name for _, name in socket.if_nameindex()]])\n"
        )
        assert run(code, cell) == ["ENETUNREACH", "ECONNREFUSED", ["lo"]]
        assert run(code, None)[:2] == ["reached", "reached"]


def test_pictures_keys_and_secrets_cannot_be_read_and_the_eim_itself_can(
    cell: Cell, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.chdir(state)  # a program that stands in a folder sees what lies beside it
    code = (
        "def read(path): return tried(lambda: open(path).read())\n"
        f"told([read({str(state)!r} + '/' + name) for name in ('store/1.jpg', 'keys/node.key', 'ledger.jsonl')]\n"
        f"  + [read({str(tmp_path / 'broker')!r}), read('store/1.jpg'), os.getcwd(), len(read(sys.argv[0])) > 9,\n"
        f"     read({str(state / 'models/current')!r}), os.listdir({str(state)!r})])\n"
    )
    assert run(code, cell) == [*(["ENOENT"] * 3), "", "ENOENT", "/", True, "secret", ["models"]]
    assert run(code, None)[:5] == ["secret", "secret", "secret", "password", "secret"]


def test_the_camera_process_cannot_be_looked_into(cell: Cell, run: Callable[..., Any], tmp_path: Path) -> None:
    code = (
        "up = f'/proc/{os.getppid()}'\n"
        f"told([tried(lambda: open(up + '/root{tmp_path}/state/store/1.jpg').read()),\n"
        "  tried(lambda: len(open(up + '/environ').read())), tried(lambda: open(up + '/mem').close()),\n"
        "  tried(lambda: os.readlink(up + '/cwd'))])\n"
    )
    assert run(code, cell) == ["EACCES"] * 4
    assert run(code, None)[0] == "secret"


def test_nothing_can_be_written_in_models_or_over_what_is_hidden(
    cell: Cell, run: Callable[..., Any], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    code = (
        f"places = [{str(state)!r} + name for name in ('/models/current', '/models/new', '/new')] + ['/dev/new']\n"
        "told([tried(lambda: open(place, 'w').close()) for place in places])\n"
    )
    assert run(code, cell) == ["EROFS"] * 4
    assert (state / "models/current").read_text() == "secret"


def test_it_has_no_rights_and_no_devices(cell: Cell, run: Callable[..., Any]) -> None:
    code = (
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "told({name: status[name].strip() for name in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb', 'NoNewPrivs')} | {\n"
        "  'dev': sorted(os.listdir('/dev')), 'ids': [os.geteuid(), os.getegid()],\n"
        "  'oom': open('/proc/self/oom_score_adj').read().strip(), 'new': open('/dev/null', 'w').write('x')})\n"
    )
    found = run(code, cell)
    assert {found[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert found["NoNewPrivs"] == "1"
    allowed = {"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr"}
    assert {"null", "urandom", "shm"} <= {*found["dev"]} <= allowed
    assert found["ids"] == [os.geteuid(), os.getegid()]
    assert found["oom"] == "500"


def test_a_nested_namespace_does_not_uncover_what_is_hidden(
    cell: Cell, run: Callable[..., Any], tmp_path: Path
) -> None:
    code = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "nested = libc.unshare(0x10020000)\n"
        f"gone = libc.umount2({os.fsencode(tmp_path / 'state')!r}, 2)\n"
        f"told([gone, os.listdir({str(tmp_path / 'state')!r})])\n"
    )
    assert run(code, cell) == [-1, ["models"]]


@pytest.mark.parametrize("in_cell", [True, False])
def test_the_memory_limit_bites(cell: Cell, run: Callable[..., Any], in_cell: bool) -> None:
    child = run("bytearray(300 * 2**20)\n", cell if in_cell else None, memory_bytes=128 * 2**20)
    assert child.wait(60) == 1
    assert "MemoryError" in child.last_words()
    child = run("bytearray(60 * 2**20)\n", cell if in_cell else None, memory_bytes=128 * 2**20)
    assert child.wait(60) == 0


def test_exit_status_signal_last_words_pid_and_group_are_its_own(cell: Cell, run: Callable[..., Any]) -> None:
    child = run("print('farewell'); sys.exit(7)\n", cell)
    assert (child.wait(60), child.last_words()) == (7, "farewell")
    child = run("os.kill(os.getpid(), 11)\n", cell)
    assert child.wait(60) == -signal.SIGSEGV
    child = run("import time; time.sleep(600)\n", cell)
    assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
    command = Path(f"/proc/{child.pid}/cmdline")
    deadline = time.monotonic() + 60
    while b"m.eim" not in command.read_bytes().split(b"\0")[2] and time.monotonic() < deadline:
        time.sleep(0.01)  # it was reported before it became the program
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(60) == -signal.SIGTERM


def test_what_cannot_be_run_is_said_as_without_a_cell(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "m.eim"
    path.write_bytes(b"\x7fELF" + bytes(100))
    path.chmod(0o755)
    before = Traces.now()
    for where in (cell, None):
        with pytest.raises(NotAnImpulseError, match=r"m\.eim can't be run \(Exec format error\)"):
            Child(path, tmp_path / "s", deadline=time.monotonic() + 60, cell=where)
    assert not Traces.now().beyond(before)


def test_a_native_program_runs_in_the_cell(cell: Cell, tmp_path: Path) -> None:
    program = tmp_path / "state/models/native.eim"
    shutil.copy("/bin/cat", program)
    (tmp_path / "link").symlink_to(tmp_path / "state/store/1.jpg")  # in place of its socket
    told = []
    for where in (cell, None):
        child = Child(program, tmp_path / "link", deadline=time.monotonic() + 60, cell=where)
        told.append((child.wait(60), child.last_words().partition(": ")[2] or child.last_words()))
        child.end()
    assert told == [(1, f"{tmp_path}/link: No such file or directory"), (0, "secret")]


def test_socket_and_shared_memory_work_where_everything_around_is_hidden(
    cell: Cell, tiny_eim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    path = tmp_path / "elsewhere.eim"
    shutil.copy(tiny_eim, path)
    before = Traces.now()
    with start_impulse(path, start_deadline_s=60) as plain:
        expected = plain.classify(GRID).scores
    hidden = Cell(hide=(tmp_path,), keep=cell.keep)
    with start_impulse(path, start_deadline_s=60, memory_bytes=2**30, cell=hidden) as impulse:
        assert (impulse.info.has_shared_memory, impulse.info.has_lane) == (True, True)
        assert impulse.classify(GRID).scores == expected
        assert len(segments_of(impulse.pid)) == 2
        assert list((tmp_path / "t").iterdir()) == []
        assert Path(f"/proc/{impulse.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        del impulse
    assert not Traces.now().beyond(before)


@pytest.mark.usefixtures("cell")
def test_it_ends_with_its_camera(tiny_eim: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from appliance.eim.runner import start_impulse\n"
        "from appliance.eim.cell import Cell\n"
        "impulse = start_impulse(Path(sys.argv[1]), cell=Cell((Path(sys.argv[2]),)))\n"
        "print(impulse.pid, flush=True); time.sleep(600)"
    )
    camera = subprocess.Popen(
        [sys.executable, "-c", code, tiny_eim, tmp_path / "state"], cwd=PROJECT, stdout=subprocess.PIPE
    )
    assert camera.stdout
    pid = int(camera.stdout.readline())
    segments = segments_of(pid)
    camera.kill()
    camera.wait()
    camera.stdout.close()
    deadline = time.monotonic() + 60
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(pid)
    assert len(segments) == 2
    assert not any(segment.exists() for segment in segments)


def test_nothing_is_run_for_a_camera_that_has_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    ran = tmp_path / "ran"
    parent = str(os.getpid() + 1)
    command = [sys.executable, "-ISE", str(cells.LAUNCHER), str(writing), parent, "0", "--", "/bin/touch", str(ran)]
    assert subprocess.run(command, pass_fds=(writing,), check=False).returncode == 125
    os.close(writing)
    assert os.read(reading, 100) == b""
    os.close(reading)
    assert not ran.exists()


def test_without_its_launcher_an_eim_runs_without_a_cell_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cells, "LAUNCHER", tmp_path / "absent.py")
    path = write_shaped(tmp_path / "m.eim", "shared-memory")
    before = Traces.now()
    for _ in range(2):
        with start_impulse(path, start_deadline_s=60, memory_bytes=2**30, cell=Cell(())) as impulse:
            impulse.classify(GRID)
            assert Path(f"/proc/{impulse.pid}/oom_score_adj").read_text() == "500\n"
            del impulse
    assert not Traces.now().beyond(before)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "launcher ended with status 2" in caplog.text
    assert not cell_state().works


@pytest.mark.usefixtures("cell")
def test_a_system_without_user_namespaces_is_named_as_the_reason(tiny_eim: Path) -> None:
    code = (
        "from pathlib import Path; import sys; from appliance.eim.runner import start_impulse\n"
        "from appliance.eim.cell import Cell, CellState, cell_state; print(cell_state())\n"
        "with start_impulse(Path(sys.argv[1]), cell=Cell(())) as impulse: print(impulse.info.name)"
    )
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    done = subprocess.run(
        ["unshare", "-U", "--map-current-user", "sh", "-c", shell, "sh", sys.executable, "-c", code, tiny_eim],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "max_user_namespaces" in done.stderr:
        pytest.skip("/proc/sys can't be written here, so user namespaces can't be switched off")
    assert "CellState(works=False" in done.stdout, done.stderr
    assert "namespaces" in done.stdout
    assert done.stdout.splitlines()[-1] == "test fleet"
    assert done.stderr.count("runs without a cell") == 1


def test_a_cell_that_works_again_is_used_and_said(
    cell: Cell, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = cells.LAUNCHER
    monkeypatch.setattr(cells, "LAUNCHER", tmp_path / "absent.py")
    code = "told(os.path.exists('/dev/new') or len(os.listdir('/sys/class/net')) >= 0)\n"
    assert run(code, cell) is True
    assert not cell_state().works
    monkeypatch.setattr(cells, "LAUNCHER", right)
    assert run(code, cell) is True
    assert cell_state().works


def test_a_launcher_that_hangs_is_ended_with_the_start(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(cells, "LAUNCHER", slow)
    before = Traces.now()
    with pytest.raises(ImpulseError, match="made no socket"):
        start_impulse(write_shaped(tmp_path / "m.eim", "json"), start_deadline_s=0.3, cell=cell)
    assert not Traces.now().beyond(before)
