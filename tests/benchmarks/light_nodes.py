"""Many nodes in one process: each with its own key, connection and signatures, speaking the real Fleet API.

A SuperNode and its night take about 200 MB, so a thousand of them fit on no machine that we have. Flower's
simulation runtime would not do: it puts Ray in place of SuperLink, TLS, signatures, heartbeats and deadlines, and
those are what a large fleet strains. So here each node is Flower's own Fleet client with Flower's own signing and a
connection of its own; it asks for messages as often as a SuperNode does (3 s after each answer), sends heartbeats,
fetches run and app once, pulls and pushes every object, and confirms. Only the SuperNode's own inside is missing: its
Runtime API, and the process of the ClientApp.

``python -m tests.benchmarks.light_nodes PLAN``: reads its plan, says "ready" once all its nodes are active, and goes
on until its standard input ends.
"""

from __future__ import annotations

import heapq
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from tests.benchmarks.light_cameras import LightCamera, Part

logger = logging.getLogger(__name__)

Answer = Callable[[Message], Message | None]

_PULL_EVERY_S = 3.0  # flwr.supernode.start_client_internal
_HEARTBEAT_EVERY_S = 20.0  # flwr.supercore.heartbeat: (30 - 5) x 0.7 to 0.9
_HEARTBEAT_THREADS = 4  # of each process
_TRIES = 20


class LightNode:
    """One node's connection to the SuperLink.

    Args:
        address: host:port.
        authority: The fleet's CA, PEM.
        key: Its private key, registered.
        answer: Its ClientApp: the reply to a message; None to stay silent.
    """

    def __init__(self, address: str, authority: bytes, key: ec.EllipticCurvePrivateKey, answer: Answer) -> None:
        self._public = public_key_to_bytes(key.public_key())
        self._answer = answer
        self._node = Node()
        self._known_runs: set[int] = set()
        self._heartbeat_at = 0.0
        self._client = FleetHttpClient.from_server_address(
            address,
            False,
            authority,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )

    def activate(self) -> None:
        """Say that it is there."""
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        self._node = Node(node_id=_patiently(lambda: self._client.ActivateNode(request)).node_id)
        self._heartbeat_at = time.monotonic() + _HEARTBEAT_EVERY_S * random.uniform(0.2, 1)  # noqa: S311  # no secret

    def heartbeat(self) -> None:
        """Say that it is still there, if that is due; beside its turns, as in a SuperNode."""
        if time.monotonic() > self._heartbeat_at:
            request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
            _patiently(lambda: self._client.SendNodeHeartbeat(request))
            self._heartbeat_at = time.monotonic() + _HEARTBEAT_EVERY_S

    def turn(self) -> bool:
        """Fetch and answer a message; whether there was one."""
        pulled = _patiently(lambda: self._client.PullMessages(PullMessagesRequest(node=self._node)))
        if not pulled.messages_list:
            return False
        began = time.monotonic()
        message = self._fetch(message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0])
        reply = self._answer(message)
        if reply is not None:
            self._send(reply, time.monotonic() - began)
        return True

    def close(self) -> None:
        """Drop the connection; the server hears nothing, as after a power cut."""
        self._client.close()

    def _fetch(self, announced: Message, tree: ObjectTree) -> Message:
        run, identity = announced.metadata.run_id, announced.metadata.message_id
        if run not in self._known_runs:
            info = _patiently(lambda: self._client.GetRun(GetRunRequest(node=self._node, run_id=run)))
            app = GetFabRequest(node=self._node, hash_str=info.run.fab_hash, run_id=run)
            _patiently(lambda: self._client.GetFab(app))
            self._known_runs.add(run)
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, run)
        names = {part.object_id for part in iterate_object_tree(tree)}
        contents = {name: _patiently(lambda name=name: pull(name)) for name in names}  # type: ignore[misc]  # mypy can't infer a lambda's default
        confirm = make_confirm_message_received_fn_protobuf(self._client.ConfirmMessageReceived, self._node, run)
        _patiently(lambda: confirm(identity))
        message = inflate_object_from_contents(identity, contents)
        assert isinstance(message, Message)
        vars(message.metadata)["_message_id"] = identity
        return message

    def _send(self, reply: Message, seconds: float) -> None:
        with no_object_id_recompute():
            vars(reply.metadata)["_message_id"] = reply.object_id
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
            contents = {name: part.deflate() for name, part in objects.items()}
        request = PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
            clientapp_runtime_list=[seconds],
        )
        pushed = _patiently(lambda: self._client.PushMessages(request))
        run = reply.metadata.run_id
        push = make_push_object_fn_protobuf(self._client.PushObject, self._node, run, pushed.session_id)
        for part in iterate_object_tree(tree):
            if part.object_id in pushed.objects_to_push:
                _patiently(lambda name=part.object_id: push(name, contents[name]))  # type: ignore[misc]  # as above


def _patiently(call: Callable[[], Any]) -> Any:
    """The call's result; a busy server is asked again, as a SuperNode would."""
    for number in range(_TRIES):
        try:
            return call()
        except (httpx.TransportError, ObjectUnavailableError) as error:
            logger.info("asked again: %r", error)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (502, 503, 504):
                raise
        time.sleep(min(5.0, 0.2 * 2**number))
    raise TimeoutError(f"no answer in {_TRIES} tries")


class Pool:
    """Gives nodes their turns, by a few threads.

    Args:
        nodes: With whether each has gone for good, asked after every turn.
        threads: How many.
    """

    def __init__(self, nodes: list[tuple[LightNode, Callable[[], bool]]], *, threads: int) -> None:
        self._due = [(time.monotonic() + random.uniform(0, _PULL_EVERY_S), n) for n in range(len(nodes))]  # noqa: S311  # no secret
        heapq.heapify(self._due)
        self._nodes = nodes
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        shares = [nodes[number::_HEARTBEAT_THREADS] for number in range(_HEARTBEAT_THREADS)]
        self._hearts = [threading.Thread(target=self._beat, args=(share,), daemon=True) for share in shares]

    def activate(self) -> None:
        """All nodes, some at a time."""
        waiting = list(self._nodes)

        def work() -> None:
            while True:
                with self._lock:
                    if not waiting:
                        return
                    node, _ = waiting.pop()
                node.activate()

        threads = [threading.Thread(target=work) for _ in self._threads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def start(self) -> None:
        """Begin with the turns."""
        for thread in (*self._threads, *self._hearts):
            thread.start()

    def stop(self) -> None:
        """End them."""
        self._over.set()
        for thread in (*self._threads, *self._hearts):
            thread.join(5)

    def _beat(self, nodes: list[tuple[LightNode, Callable[[], bool]]]) -> None:
        while not self._over.wait(0.2):
            for node, gone in nodes:
                if not gone() and not self._over.is_set():
                    try:
                        node.heartbeat()
                    except (httpx.HTTPError, RuntimeError, TimeoutError) as error:  # RuntimeError: closed meanwhile
                        self.faults.append(repr(error))

    def _run(self) -> None:
        while not self._over.is_set():
            with self._lock:
                due, number = heapq.heappop(self._due) if self._due else (float("inf"), -1)
            if number < 0 or due > time.monotonic() + 0.2:
                if number >= 0:
                    with self._lock:
                        heapq.heappush(self._due, (due, number))
                self._over.wait(0.05)
                continue
            self._over.wait(max(0.0, due - time.monotonic()))
            node, gone = self._nodes[number]
            try:
                busy = node.turn()
            except (httpx.HTTPError, ObjectPullError, ObjectPushError, TimeoutError) as error:
                # A SuperNode logs such a fault and goes on, e.g. where the run has ended meanwhile.
                self.faults.append(repr(error))
                busy = False
            if gone():
                node.close()
                continue
            with self._lock:
                heapq.heappush(self._due, (time.monotonic() + (0 if busy else _PULL_EVERY_S), number))


def main(arguments: list[str]) -> int:
    """A process with its share of the nodes; see the module."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    plan = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    shelf = Shelf(Path(plan["models"]), load_public_key(Path(plan["signing"]).read_bytes()))
    authority = Path(plan["authority"]).read_bytes()
    nodes: list[tuple[LightNode, Callable[[], bool]]] = []
    for entry in plan["nodes"]:
        camera = LightCamera(Part(**entry["part"]), shelf, Path(plan["kept"]))
        key = load_pem_private_key(entry["key"].encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        node = LightNode(plan["address"], authority, key, camera.answer)
        nodes.append((node, lambda camera=camera: camera.gone))  # type: ignore[misc]  # mypy can't infer a lambda's default
    pool = Pool(nodes, threads=plan["threads"])
    pool.activate()
    pool.start()
    print("ready", flush=True)
    sys.stdin.read()
    pool.stop()
    print(json.dumps({"faults": len(pool.faults), "examples": pool.faults[:5]}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
