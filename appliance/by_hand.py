"""What a person asks of the models on a camera: go back, start over, try again.

The camera process owns the running model, so a command leaves a request beside the shelf and waits for the answer.
Where no camera process runs, which a lock tells, the command does it itself.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from appliance.ending import commit
from appliance.errors import ModelError, SitecamError, SwapError
from appliance.files import write_atomically
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, clear_trial, write_trial
from appliance.models.verdict import forget_verdict
from appliance.staging import stage
from appliance.swap import Swapper

logger = logging.getLogger(__name__)

Wish = Literal["rollback", "recover", "try"]

_POLL_S = 0.2


@dataclass(frozen=True)
class Request:
    """What was asked.

    Attributes:
        wish: ``rollback`` (to the version before), ``recover`` (to the factory's, assembled afresh), ``try`` (a
            version again, whatever its verdict was).
        version: For ``try``; 0 otherwise.
        token: Tells one request from another.
    """

    wish: Wish
    version: int
    token: str


@contextmanager
def camera_lock(root: Path) -> Iterator[bool]:
    """Hold the camera's lock; False where another process holds it: its camera process runs.

    Args:
        root: The camera's state folder.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "camera.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # the kernel lets go of it when the file is closed, however the process ends


def target(shelf: Shelf, wish: Wish, version: int = 0) -> int:
    """The version that a wish means.

    Raises:
        ModelError: There is none, or it runs already.
    """
    current = shelf.current
    there = ", ".join(map(str, shelf.versions())) or "none"
    if wish == "rollback":
        previous = shelf.previous
        if previous in (None, current) or previous not in shelf.versions() or shelf.is_quarantined(previous):
            raise ModelError(
                "There is no earlier version to go back to",
                means=f"Version {current} stays",
                do="`sitecam recover` goes to the version that enrolment brought",
            )
        return previous
    if wish == "recover":
        factory = shelf.factory
        if factory is None or factory not in shelf.versions():
            raise ModelError("There is no version to recover", do="Enrol this camera again with its bundle")
        return factory
    if version not in shelf.versions():
        raise ModelError(f"Version {version} is not on this camera", do=f"Versions here: {there}")
    if version == current:
        raise ModelError(f"Version {version} runs already", means="Nothing was changed")
    return version


def do_it(shelf: Shelf, wish: Wish, version: int, *, threads: int) -> str:
    """Change the pointers, with no camera process about; call it under :func:`camera_lock`.

    Returns:
        What was done, in a sentence.

    Raises:
        ModelError: It can't be; nothing was changed.
        OSError: The disk refused.
    """
    wanted, current = target(shelf, wish, version), shelf.current
    if wish == "try":
        if not shelf.may_be_offered(wanted):
            raise ModelError(
                f"Version {wanted} is older than version {shelf.fleet_version}, so it can't be left to the camera's"
                " next start",
                do="Start the camera and ask again; or use `sitecam rollback` or `sitecam recover`",
            )
        forget_verdict(shelf.root, wanted)
        shelf.offer(wanted)
        return f"Version {wanted} will be tried as soon as the camera runs."
    stage(shelf, shelf.manifest(wanted), threads=threads)
    trial = Trial(wanted, State.COMMIT, by_person=True, reason="Somebody asked for it")
    write_trial(shelf.root, trial)  # a power cut between two pointers is made good by the next start
    commit(shelf, trial)
    clear_trial(shelf.root)
    if wanted == current:
        return f"Version {wanted} was assembled afresh from its parts."
    return f"Version {wanted} runs from the next start; version {current} is not tried again by itself."


class HandOver:
    """In the camera process: takes requests and answers them.

    Args:
        shelf: Where versions lie.
        swapper: Swaps them.
        threads: CPU threads that the model may use.
    """

    def __init__(self, shelf: Shelf, swapper: Swapper, *, threads: int) -> None:
        self._shelf = shelf
        self._swapper = swapper
        self._threads = threads
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="by-hand", daemon=True)

    def start(self) -> None:
        """Take requests from now on; one that was left for an earlier process is void."""
        for path in (_request_path(self._shelf), *self._shelf.root.glob("answer-*.json")):
            path.unlink(missing_ok=True)
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Take no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def _watch(self) -> None:
        while not self._stopping.wait(_POLL_S):
            try:
                request = _read_request(self._shelf)
                if request:
                    _request_path(self._shelf).unlink(missing_ok=True)  # first: what is done may not be done twice
                    ok, sentence = self._answer(request)
                    logger.info("By hand: %s: %s", request.wish, sentence)
                    write_atomically(_answer_path(self._shelf, request.token), json.dumps([ok, sentence]).encode())
            except (SitecamError, OSError) as error:
                logger.error("A request by hand could not be answered: %s", error)
                self._stopping.wait(5)

    def _answer(self, request: Request) -> tuple[bool, str]:
        try:
            wanted = target(self._shelf, request.wish, request.version)
            if request.wish == "try":
                forget_verdict(self._shelf.root, wanted)
                self._shelf.offer(wanted)  # should something else stand in its way, it is tried again
                verdict = self._swapper.swap(wanted)
            elif wanted == self._shelf.current:
                stage(self._shelf, self._shelf.manifest(wanted), threads=self._threads)
                return True, f"Version {wanted} runs; it was assembled afresh from its parts."
            else:
                verdict = self._swapper.swap(wanted, by_person=True)
        except (SitecamError, OSError) as error:
            return False, str(error)
        return verdict.accepted, f"Version {self._shelf.current} runs. {verdict.reason.rstrip('.')}."


def ask(shelf: Shelf, wish: Wish, version: int = 0, *, timeout_s: float = 300) -> str:
    """Ask the camera process, and wait for its answer.

    Returns:
        What was done, in a sentence.

    Raises:
        SwapError: It was refused or did not work, with the reason; or nobody answered.
    """
    request = Request(wish, version, secrets.token_hex(8))
    answer = _answer_path(shelf, request.token)
    write_atomically(_request_path(shelf), json.dumps(asdict(request)).encode())
    ends = time.monotonic() + timeout_s
    try:
        while time.monotonic() < ends:
            if answer.exists():
                ok, sentence = json.loads(answer.read_bytes())
                if ok:
                    return str(sentence)
                raise SwapError(str(sentence).rstrip("."))
            time.sleep(_POLL_S)
    finally:
        answer.unlink(missing_ok=True)
    _request_path(shelf).unlink(missing_ok=True)  # where it was not even taken
    raise SwapError(
        f"The camera process gave no answer within {timeout_s:.0f} s",
        means="The request was withdrawn",
        do="Look at its page, or at `journalctl -u sitecam-camera`",
    )


def _request_path(shelf: Shelf) -> Path:
    return shelf.root / "request.json"


def _answer_path(shelf: Shelf, token: str) -> Path:
    return shelf.root / f"answer-{token}.json"


def _read_request(shelf: Shelf) -> Request | None:
    path = _request_path(shelf)
    if not os.path.exists(path):  # noqa: PTH110  five times a second
        return None
    try:
        body = json.loads(path.read_bytes())
        if body["wish"] not in get_args(Wish) or not str(body["token"]).isalnum():
            raise ValueError(body)
        return Request(body["wish"], int(body["version"]), str(body["token"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        path.unlink(missing_ok=True)
        raise ModelError(f"A request can't be read ({error!r})", means="It was removed") from error
