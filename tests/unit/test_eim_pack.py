"""Building an .eim, and running it on its own: other folders, no environment, every form of its arguments."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance import litert
from appliance.eim.leftovers import SHARED_MEMORY
from appliance.eim.pack import pack
from appliance.errors import ManifestError, PartError
from appliance.models.manifest import Manifest
from tests.fakes import parts
from tests.fakes.eim_traces import runs

HELLO = b'{"hello": 1, "id": 1}'


def run(command: list[str | Path], *, given: bytes = b"", cwd: Path | None = None) -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, cwd=cwd, check=True)
    return done.stdout


def test_two_packs_of_the_same_parts_are_the_same_bytes(tiny_backbone: bytes, tmp_path: Path) -> None:
    first = parts.tiny_eim(tmp_path / "first.eim", tiny_backbone).read_bytes()
    assert parts.tiny_eim(tmp_path / "second.eim", tiny_backbone).read_bytes() == first
    assert parts.tiny_eim(tmp_path / "third.eim", tiny_backbone, version=2).read_bytes() != first


def test_it_is_executable_whatever_the_umask(tiny_backbone: bytes, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        eim = parts.tiny_eim(tmp_path / "m.eim", tiny_backbone)
    finally:
        os.umask(before)
    assert eim.stat().st_mode & 0o777 == 0o755


def test_it_holds_its_parts_and_manifest_unchanged(tiny_backbone: bytes, tmp_path: Path) -> None:
    eim = parts.tiny_eim(tmp_path / "m.eim", tiny_backbone, version=3)
    with zipfile.ZipFile(eim) as archive:
        assert archive.read("backbone.tflite") == tiny_backbone
        assert archive.read("head.npz") == parts.tiny_head().to_bytes()
        assert Manifest.from_bytes(archive.read("manifest.json")).version == 3
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


@pytest.mark.parametrize("role", ["backbone", "head"])
def test_a_part_that_is_not_the_manifests_is_refused_and_nothing_written(role: str, tmp_path: Path) -> None:
    given = {"backbone": b"a backbone", "head": parts.tiny_head().to_bytes()}
    manifest = parts.tiny_manifest(given["backbone"], given["head"])
    given[role] = b"another"
    out = tmp_path / "m.eim"
    out.write_text("the old one")
    with pytest.raises(PartError, match=f"The {role} of version 1"):
        pack(manifest, given["backbone"], given["head"], out)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the old one"]


def test_a_head_of_another_shape_than_the_manifests_is_refused(tmp_path: Path) -> None:
    head = parts.tiny_head(hidden_units=4).to_bytes()
    with pytest.raises(PartError, match="features, hidden units and labels"):
        pack(parts.tiny_manifest(b"b", head), b"b", head, tmp_path / "m.eim")


def test_a_label_with_a_brace_is_refused(tmp_path: Path) -> None:
    head = parts.tiny_head().to_bytes()
    manifest = parts.relabelled(parts.tiny_manifest(b"b", head), "hat", "no hat", "{}")
    with pytest.raises(ManifestError, match="counting braces"):
        pack(manifest, b"b", head, tmp_path / "m.eim")


@pytest.mark.litert
def test_it_runs_without_any_environment_variable(tiny_eim: Path) -> None:
    reply = run(["/usr/bin/env", "-i", tiny_eim, "stdin"], given=HELLO)
    assert json.loads(reply)["project"]["name"] == "test fleet"


@pytest.mark.litert
def test_it_runs_from_another_folder_and_with_spaces_in_its_path(tiny_backbone: bytes, tmp_path: Path) -> None:
    folder = tmp_path / 'a folder\'s $HOME "name"'
    folder.mkdir()
    parts.tiny_eim(folder / "a model.eim", tiny_backbone)
    assert json.loads(run([folder / "a model.eim", "stdin"], given=HELLO, cwd=Path("/")))["success"]
    assert json.loads(run(["./a model.eim", "stdin"], given=HELLO, cwd=folder))["success"]


@pytest.mark.litert
def test_neither_its_folder_nor_the_environment_changes_what_it_runs(tiny_backbone: bytes, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "appliance.py").write_text("raise SystemExit('hijacked')")
    eim = parts.tiny_eim(tmp_path / "m.eim", tiny_backbone)
    hostile = ["/usr/bin/env", f"PYTHONPATH={tmp_path}", "PYTHONHOME=/nowhere"]
    assert json.loads(run([*hostile, eim, "stdin"], given=HELLO, cwd=tmp_path))["success"]


@pytest.mark.litert
def test_it_passes_over_a_python_that_can_not_run_it(tiny_backbone: bytes, tmp_path: Path) -> None:
    bare = tmp_path / "bare python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # -S: no packages
    bare.chmod(0o755)
    usable = tmp_path / "python3"
    usable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    usable.chmod(0o755)
    head = parts.tiny_head().to_bytes()
    eim = tmp_path / "m.eim"
    pack(parts.tiny_manifest(tiny_backbone, head), tiny_backbone, head, eim, interpreter=bare)
    found = run(["/usr/bin/env", "-i", f"PATH={tmp_path}:/usr/bin:/bin", eim, "stdin"], given=HELLO)
    assert json.loads(found)["success"]
    none = subprocess.run(["/usr/bin/env", "-i", "PATH=/nowhere", eim], capture_output=True, check=False)
    assert none.returncode == 1
    assert b"no Python here has numpy" in none.stderr


@pytest.mark.litert
def test_without_an_argument_it_says_what_it_needs(tiny_eim: Path) -> None:
    done = subprocess.run([tiny_eim], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(b"Requires one parameter")


@pytest.mark.litert
def test_print_info_is_a_line_and_the_hello(tiny_eim: Path) -> None:
    line, _, rest = run([tiny_eim, "--print-info"]).partition(b"\n")
    assert not line.startswith(b"{")
    hello = json.loads(rest)
    assert hello["model_parameters"]["labels"] == ["head", "hardhat", "nobody"]
    assert not (SHARED_MEMORY / hello["features_shm"]["name"].strip("/")).exists()


@pytest.mark.litert
def test_over_stdin_it_answers_lines_and_ends_with_its_input(tiny_eim: Path) -> None:
    picture = json.dumps({"classify": [0] * 1024, "id": 2}).encode()
    answers = run([tiny_eim, "stdin"], given=HELLO + picture + b'{"id": 3}')
    assert [json.loads(line)["id"] for line in answers.splitlines()] == [1, 2, 3]


@pytest.mark.litert
def test_its_scores_are_those_of_the_same_parts_in_this_process(tiny_backbone: bytes, tmp_path: Path) -> None:
    head = parts.tiny_head(hidden_units=5)
    eim = parts.tiny_eim(tmp_path / "m.eim", tiny_backbone, head=head)
    interpreter = litert.load(tiny_backbone)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    pictures = np.random.default_rng(3).integers(0, 256, (4, 32, 32, 3), np.uint8)
    wide = pictures.astype(int)
    packed = ((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]).reshape(4, -1).tolist()
    asked = [json.dumps({"classify": numbers, "id": 2}).encode() for numbers in packed]
    replies = run([eim, "stdin"], given=HELLO + b"".join(asked)).splitlines()[1:]
    for picture, reply in zip(pictures, replies, strict=True):
        interpreter.set_tensor(source, picture[None].astype(np.float32))
        interpreter.invoke()
        expected = head.scores(interpreter.get_tensor(sink))[0]
        scores = json.loads(reply)["result"]["classification"]
        assert list(scores) == list(parts.LABELS)
        assert np.abs(expected - list(scores.values())).max() < 1e-5


@pytest.mark.litert
def test_a_damaged_one_ends_at_once_with_a_sentence(tmp_path: Path) -> None:
    rubbish, head = b"not a model", parts.tiny_head().to_bytes()
    eim = tmp_path / "m.eim"
    pack(parts.tiny_manifest(rubbish, head), rubbish, head, eim)
    done = subprocess.run([eim, tmp_path / "s"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"The backbone can't be loaded" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.litert
def test_it_loads_nothing_that_it_does_not_need(tiny_eim: Path) -> None:
    spy = (
        "import runpy, sys; sys.argv[1:] = ['--print-info']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    loaded = run([sys.executable, "-I", "-c", spy.replace("sys.argv[0]", repr(str(tiny_eim)))]).split()
    assert b"numpy" in loaded
    unwanted = {b"PIL", b"cv2", b"cryptography", b"tensorflow", b"multiprocessing", b"appliance.vision"}
    assert unwanted.isdisjoint(loaded)


@pytest.fixture
def connected(tiny_eim: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A running .eim whose socket is ``s`` in tmp_path, and a client on it."""
    path = tmp_path / "s"
    eim = subprocess.Popen([tiny_eim, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with eim, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        while not path.exists():
            assert eim.poll() is None
            time.sleep(0.01)
        client.connect(str(path))  # at the first try: there is no moment at which the name refuses
        yield eim, client
        eim.terminate()


@pytest.mark.litert
def test_its_socket_has_no_name_once_its_client_is_there(
    connected: tuple[subprocess.Popen[bytes], socket.socket], tmp_path: Path
) -> None:
    _, client = connected
    client.sendall(HELLO)
    assert client.recv(1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.litert
def test_a_client_that_goes_without_its_answer_is_an_end_like_any_other(
    connected: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    eim, client = connected
    client.sendall(HELLO * 1000)
    client.close()
    assert eim.wait(60) == 0


@pytest.mark.litert
def test_it_reads_runs_the_model_and_finishes_in_one_thread_each(
    connected: tuple[subprocess.Popen[bytes], socket.socket],
) -> None:
    eim, client = connected
    client.sendall(HELLO)
    assert client.recv(1)
    assert "Threads:\t3\n" in Path(f"/proc/{eim.pid}/status").read_text()


@pytest.mark.litert
def test_it_ends_with_the_process_that_started_it(tiny_eim: Path, tmp_path: Path) -> None:
    start = "import subprocess, sys, time; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); time.sleep(600)"
    parent = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", start, tiny_eim, tmp_path / "s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while not (tmp_path / "s").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert runs(pid)
    parent.send_signal(signal.SIGKILL)  # nobody has connected: only the death of its parent can end it
    parent.wait()
    parent.stdout.close()
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(pid)
    assert list(tmp_path.iterdir()) == []
