"""Who may have this camera forgotten, and how a running camera process does it to itself.

The process stops everything but its page, wipes what it can, answers with the proof, and ends; what the page held open
goes last. ``sitecam forget`` leaves a request in the state folder, as in :mod:`appliance.by_hand`, or does it itself
where no camera process runs.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.by_hand import camera_lock
from appliance.errors import ConfigError, SitecamError, StoreError
from appliance.files import write_atomically
from appliance.forget import Proof, begin, is_forgetting, read_proof, wipe
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

_POLL_S = 0.5
_REQUEST = "forget-request.json"
#: What the page needs until its process ends.
_HELD = (
    *("keys/accounts.sqlite", "keys/accounts.sqlite-wal", "keys/accounts.sqlite-shm", "keys/accounts.sqlite-journal"),
    *("camera.lock", "status.json"),
)


class Forgetter:
    """In the camera process: forgets the camera when somebody asks, once.

    Args:
        paths: The camera's state folder.
        camera: Its name, which whoever asks must type.
        quiet: Stops everything that writes to the state folder, the page aside; returns once it has ended.
    """

    def __init__(self, paths: CameraPaths, camera: str, quiet: Callable[[], None]) -> None:
        self._paths = paths
        self._camera = camera
        self._quiet = quiet
        self._busy = threading.Lock()
        self._done = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="forgetter", daemon=True)

    @property
    def done(self) -> bool:
        """Whether this process must end now: call :func:`resume` once it has let go of everything."""
        return self._done.is_set()

    def start(self) -> None:
        """Take requests from now on; one that was left for an earlier process is void."""
        (self._paths.root / _REQUEST).unlink(missing_ok=True)
        self._thread.start()

    def stop(self, *, deadline_s: float = 5) -> None:
        """Take no more."""
        self._stopping.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(deadline_s)

    def forget(self, typed: str, *, by: str, token: str = "") -> Proof:
        """Forget this camera, but for what the page needs to say so.

        Args:
            typed: What somebody typed as the camera's name.
            by: Who.
            token: The forgetting's id; a new one if left out.

        Raises:
            ConfigError: It isn't its name; nothing was deleted.
            StoreError: It is being forgotten already.
            OSError: The disk refused.
        """
        check_name(self._camera, typed)
        if not self._busy.acquire(blocking=False):
            raise StoreError("This camera is being forgotten already", do="Wait for the answer to the first request")
        try:
            begin(self._paths, camera=self._camera, by=by, token=token)
        except BaseException:
            self._busy.release()
            raise
        # From here on it must go through: what fails now is done after the end of this process, or at the next start.
        try:
            logger.warning("%s asked to forget this camera", by)
            self._quiet()
            return wipe(self._paths, keep=_HELD)
        finally:
            self._done.set()

    def _watch(self) -> None:
        path = self._paths.root / _REQUEST
        while not self._stopping.wait(_POLL_S):
            if not os.path.exists(path):  # noqa: PTH110  twice a second
                continue
            try:
                body = json.loads(path.read_bytes())
                path.unlink()
                self.forget(str(body["name"]), by=str(body["by"]), token=str(body["token"]))
                return
            except (SitecamError, OSError, ValueError, KeyError, TypeError) as error:
                path.unlink(missing_ok=True)
                logger.error("A request to forget this camera failed: %s", error)


def check_name(camera: str, typed: str) -> None:
    """Make sure that somebody means this camera.

    Raises:
        ConfigError: They don't.
    """
    if typed.strip() != camera.strip():
        raise ConfigError(
            f"{typed[:80]!r} is not this camera's name",
            means="Nothing was deleted",
            do=f"To forget it for good, type its name: {camera}",
        )


def resume(paths: CameraPaths) -> Proof | None:
    """Finish what was begun, with nothing of this camera open any more; None where nobody asked.

    Call it under :func:`appliance.by_hand.camera_lock`, first thing at the start and last thing before the end.

    Raises:
        OSError: The disk refused; the next start goes on.
    """
    return wipe(paths) if is_forgetting(paths) else None


def forget_by_command(paths: CameraPaths, *, camera: str, typed: str, by: str, timeout_s: float = 180) -> Proof:
    """Forget a camera from the command line, whether its process runs or not.

    Args:
        paths: The camera's state folder.
        camera: Its name.
        typed: What somebody typed as its name.
        by: Who.
        timeout_s: How long to wait for a running process.

    Returns:
        The proof, everything gone.

    Raises:
        ConfigError: It isn't its name; nothing was deleted.
        StoreError: The running process did not finish in time.
        OSError: The disk refused; the camera's next start goes on.
    """
    check_name(camera, typed)
    with camera_lock(paths.root) as mine:
        if mine:
            begin(paths, camera=camera, by=by)
            return wipe(paths)
    return _ask(paths, typed, by, timeout_s)


def _ask(paths: CameraPaths, typed: str, by: str, timeout_s: float) -> Proof:
    token = secrets.token_hex(8)
    request: Path = paths.root / _REQUEST
    write_atomically(request, json.dumps({"name": typed, "by": by, "token": token}).encode(), mode=0o600)
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        time.sleep(_POLL_S)
        proof = None if is_forgetting(paths) else read_proof(paths)
        if proof is not None and proof.id == token:
            return proof
    taken = not request.exists()
    request.unlink(missing_ok=True)
    raise StoreError(
        f"The camera process did not finish within {timeout_s:.0f} s",
        means="What is left goes at its next start" if taken else "Nothing was deleted: it did not take the request",
        do="Stop the camera service, then run the same command again",
    )
