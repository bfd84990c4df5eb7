"""Runs the ClientApp that is installed on this camera, whatever app the server sends along.

A SuperNode normally unpacks the app bundle (FAB) that arrives with a run and executes the code in it. Ours runs
with ``--isolation process``: it only queues tasks, and this module takes them. Each task is executed in a forked
child by Flower's own ``run_clientapp``, in which the two steps that would touch the bundle are replaced: nothing
is unpacked, and the app is the installed one. The fork also spares each message the seconds of a fresh Python.

This leans on internals of flwr 1.41.0, which is why that version is pinned exactly;
tests/night/test_foreign_code.py sends a hostile bundle and proves that it isn't run.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.auth import load_superexec_auth_secret
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp as flower

from appliance.errors import NightError

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_BUSY_POLL_S = 1.0  # while a task is under way
_GRACE_S = 5.0  # for a task to end by itself once the night is over, and again once it was told to
_SILENCE_S = 15.0  # of the SuperNode; it is busy at times, when a large message comes in
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


class Executor:
    """Takes the SuperNode's tasks, one at a time.

    Args:
        address: The SuperNode's Runtime API, host:port on loopback.
        secret: File with the secret that SuperNode and executor share, so that no other program on this machine
            can take a task.
        app: The installed ClientApp.
    """

    def __init__(self, address: str, secret: Path, app: ClientApp) -> None:
        self._address = address
        self._app = app
        shared = load_superexec_auth_secret(str(secret))
        if shared is None:
            raise NightError("The executor has no secret", means="Training can't start")
        self._client = RuntimeHttpClient.from_server_address(
            server_address=address,
            insecure=True,  # loopback, inside this camera
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(master_secret=shared, protected_methods=frozenset({_ACQUIRE})),
            ],
        )

    def run(self, going: Callable[[], bool]) -> None:
        """Execute tasks for as long as ``going`` says so.

        A SuperNode has one message at a time. Where it hands out a task while another one is under way, it has given
        that one up: the server stopped before it had sent the whole message, and the task would wait for the rest
        for two hours.

        Raises:
            NightError: The SuperNode answers no more.
        """
        silent_since: float | None = None
        child: BaseProcess | None = None
        try:
            while going():
                try:
                    token = self._acquire()
                except httpx.HTTPError as error:
                    # Flower's own retries wait ever longer, and would hide that the SuperNode has ended.
                    silent_since = silent_since or time.monotonic()  # not since it was heard: we may have been asleep
                    if time.monotonic() - silent_since > _SILENCE_S:
                        raise NightError(
                            f"The SuperNode answers no more ({error})", means="Tonight ends here for this camera"
                        ) from error
                else:
                    silent_since = None
                    if token:
                        _end(child, grace_s=0)
                        child = self._start(token)
                if child is not None and child.exitcode is not None:
                    _end(child, grace_s=0)
                    child = None
                if child is None:
                    time.sleep(_POLL_S)
                else:
                    child.join(_BUSY_POLL_S)
            _end(child, grace_s=_GRACE_S)  # the task that ends the night still has to hand over its reply
            child = None
        finally:
            _end(child, grace_s=0)
            self._client.close()

    def _acquire(self) -> str:
        """The token of a task that waits; empty where none does."""
        reply = self._client.AcquireTask(
            AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP], agentapp_fab_hashes=[])
        )
        return reply.token if reply.HasField("task") else ""

    def _start(self, token: str) -> BaseProcess:
        gc.collect()
        gc.freeze()  # the child's collector then leaves the pages alone that it shares with us
        child = multiprocessing.get_context("fork").Process(
            target=_child, args=(self._address, token, self._app), name="sitecam-task"
        )
        child.start()
        return child


def _end(child: BaseProcess | None, *, grace_s: float) -> None:
    """End a task's process, if there is one, after so many seconds in which it may end by itself."""
    if child is None:
        return
    child.join(grace_s)
    if child.is_alive():
        child.terminate()
        child.join(_GRACE_S)
    if child.is_alive():
        child.kill()
        child.join()
    if child.exitcode:
        logger.error("A task ended with status %s", child.exitcode)
    child.close()


def _child(address: str, token: str, app: ClientApp) -> None:
    vars(flower)["install_from_fab"] = _unpack_nothing
    vars(flower)["get_load_client_app_fn"] = lambda **_: lambda *_: app
    flower.run_clientapp(
        runtime_api_address=address,
        token=token,
        insecure=True,
        parent_pid=os.getppid(),
        runtime_dependency_install=False,
    )


def _unpack_nothing(*_: object, **__: object) -> None:
    """In place of Flower's install_from_fab."""
