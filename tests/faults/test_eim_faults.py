"""Every way in which an .eim can fail: a typed error, in time, and nothing left of it."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance import errors
from appliance.eim import child
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.errors import ImpulseExitedError, ImpulseSilentError, NotAnImpulseError
from tests.fakes.eim_faults import AT_CLASSIFY, AT_START, BEARABLE, write_faulty
from tests.fakes.eim_shaped import LARGE, NOT_OURS, write_shaped
from tests.fakes.eim_traces import Traces, runs, segments_of_fake

PICTURE = np.full((32, 32, 3), 90, np.uint8)


@pytest.fixture
def eim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where to write the fake; afterwards nothing of it may be left anywhere."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(child, "TERM_GRACE_S", 0.3)
    before = Traces.now()
    path = tmp_path / "fake.eim"
    yield path
    assert not Traces.now().beyond(before)
    assert list(temporary.iterdir()) == []
    assert segments_of_fake(path) == []


def classify_three(impulse: RunningImpulse) -> None:
    for _ in range(3):
        impulse.classify(PICTURE)


def start(path: Path, *, start_deadline_s: float = 20, reply_deadline_s: float = 20) -> RunningImpulse:
    return start_impulse(path, start_deadline_s=start_deadline_s, reply_deadline_s=reply_deadline_s)


@pytest.mark.parametrize(("fault", "expected"), AT_START.items())
def test_an_eim_that_fails_at_its_start_is_named_and_leaves_nothing(eim: Path, fault: str, expected: str) -> None:
    patience_s = 0.3 if expected == "ImpulseSilentError" else 20
    with pytest.raises(getattr(errors, expected), match=r"fake\.eim"):
        start(write_faulty(eim, fault), start_deadline_s=patience_s)


@pytest.mark.parametrize(("fault", "expected"), AT_CLASSIFY.items())
def test_an_eim_that_fails_at_a_picture_is_named_and_leaves_nothing(eim: Path, fault: str, expected: str) -> None:
    patience_s = 0.3 if expected == "ImpulseSilentError" else 20
    with start(write_faulty(eim, fault), reply_deadline_s=patience_s) as impulse:
        pid = impulse.pid
        with pytest.raises(getattr(errors, expected), match=r"fake\.eim"):
            classify_three(impulse)
        assert not runs(pid)
        assert segments_of_fake(eim) == []
        with pytest.raises(ImpulseExitedError, match=r"fake\.eim is closed.*failed before"):
            impulse.classify(PICTURE)


@pytest.mark.parametrize("fault", BEARABLE)
def test_what_is_odd_but_within_the_protocol_is_borne(eim: Path, fault: str) -> None:
    with start(write_faulty(eim, fault)) as impulse:
        for _ in range(3):
            assert impulse.classify(PICTURE).scores["red"] == pytest.approx(1 / 3)


def test_the_error_tells_the_exit_status_and_the_last_words(eim: Path) -> None:
    with pytest.raises(ImpulseExitedError) as caught:
        start(write_faulty(eim, "exits-at-once"))
    assert "exit status 3" in str(caught.value)
    assert "cannot load the model: out of luck" in str(caught.value)


def test_a_killed_eim_is_said_to_be_killed(eim: Path) -> None:
    with (
        start(write_faulty(eim, "killed-later")) as impulse,
        pytest.raises(ImpulseExitedError, match=r"SIGKILL.*memory"),
    ):
        classify_three(impulse)


def test_last_words_are_kept_short(eim: Path) -> None:
    eim.write_text("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9; do printf '%01000d\\n' $i; done\nexit 1\n")
    eim.chmod(0o755)
    with pytest.raises(ImpulseExitedError) as caught:
        start(eim)
    assert len(str(caught.value)) < 800


def test_what_the_eim_started_ends_with_it(eim: Path) -> None:
    with start(write_faulty(eim, "silent-with-a-child"), reply_deadline_s=0.5) as impulse:
        with pytest.raises(ImpulseSilentError) as caught:
            impulse.classify(PICTURE)
        found = re.search(r"child (\d+)", str(caught.value))
        assert found
        assert not runs(int(found[1]))


def test_a_request_larger_than_any_socket_buffer_arrives_whole(eim: Path) -> None:
    with start(write_shaped(eim, LARGE)) as impulse:
        scores = impulse.classify(np.full((240, 240, 3), 90, np.uint8)).scores
        assert scores["red"] == pytest.approx(1 / 3)


def test_an_eim_that_stops_reading_is_silent_not_a_hang(eim: Path) -> None:
    with (
        start(write_shaped(eim, LARGE, fault="reads-no-more"), reply_deadline_s=0.5) as impulse,
        pytest.raises(ImpulseSilentError, match="took no request"),
    ):
        impulse.classify(np.full((240, 240, 3), 90, np.uint8))


def test_closing_while_another_thread_waits_for_an_answer_ends_both(eim: Path) -> None:
    with start(write_faulty(eim, "silent"), reply_deadline_s=0.5) as impulse:
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(impulse.classify, PICTURE)
            impulse.close()
        assert isinstance(waiting.exception(), ImpulseSilentError | ImpulseExitedError)
        assert impulse.pid == 0


def test_an_eim_that_dies_between_two_pictures_is_noticed_at_the_next(eim: Path) -> None:
    with start(write_shaped(eim, "shared-memory")) as impulse:
        impulse.classify(PICTURE)
        os.kill(impulse.pid, signal.SIGKILL)
        with pytest.raises(ImpulseExitedError):
            impulse.classify(PICTURE)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o755, "is empty"),
        (b"\xff\xd8\xff\xe0 picture", 0o755, "JPEG picture"),
        (b"\x1c\0\0\0TFL3 model", 0o755, "bare .tflite model"),
        (b"PK\x03\x04", 0o755, "zip archive"),
        (b"just some text\n", 0o755, "not a program"),
        (b"#!/bin/sh\nexit 0\n", 0o644, "chmod"),
        (b"#!/no/such/interpreter\n", 0o755, "can't be run"),
        (b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\x00" + bytes(44), 0o755, "processor 243"),
    ],
)
def test_a_file_that_is_no_eim_is_refused_with_what_it_is(eim: Path, content: bytes, mode: int, said: str) -> None:
    eim.write_bytes(content)
    eim.chmod(mode)
    with pytest.raises(NotAnImpulseError, match=re.escape(said)):
        start(eim)


def test_a_missing_file_is_refused(eim: Path) -> None:
    with pytest.raises(NotAnImpulseError, match="No such file"):
        start(eim)


@pytest.mark.parametrize(("shape", "said"), NOT_OURS.items())
def test_an_eim_that_answers_other_questions_is_refused(eim: Path, shape: str, said: str) -> None:
    with pytest.raises(NotAnImpulseError, match=said):
        start(write_shaped(eim, shape))


def test_a_file_that_is_still_being_written_is_waited_for(eim: Path) -> None:
    write_shaped(eim, "old")
    writing = eim.open("ab")  # the kernel refuses to run it: "Text file busy"
    closing = threading.Timer(0.2, writing.close)
    closing.start()
    with start(eim) as impulse:
        assert impulse.info.version == 7
    closing.join()
