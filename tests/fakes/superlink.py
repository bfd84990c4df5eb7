"""A SuperLink as enrolment sees it: keys come in, go out for good, and can be cut off in between."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import NightError
from appliance.join_code import key_fingerprint
from server.superlink import RegisteredNode


class FakeSuperLink:
    """Remembers what it was told.

    Attributes:
        up: Whether it answers.
        names: Of the cameras that were registered, in their order.
    """

    def __init__(self) -> None:
        self.up = True
        self.names: list[str] = []
        self._nodes: list[RegisteredNode] = []

    def answers(self) -> bool:
        return self.up

    def prepare(self) -> None: ...

    def register(self, public_key: Path, name: str) -> int:
        self._must_be_up()
        fingerprint = key_fingerprint(public_key.read_text().strip())
        if any(node.fingerprint == fingerprint for node in self._nodes):
            raise NightError("flwr supernode register failed: [code: 23] Public key already in use")
        self.names.append(name)
        node = RegisteredNode(2**63 + len(self._nodes) + 1, fingerprint, unregistered=False)
        self._nodes.append(node)
        return node.node_id

    def unregister(self, node_id: int) -> None:
        self._must_be_up()
        for number, node in enumerate(self._nodes):
            if node.node_id == node_id and not node.unregistered:
                self._nodes[number] = RegisteredNode(node_id, node.fingerprint, unregistered=True)
                return
        raise NightError("flwr supernode unregister failed: [code: 24] Node ID not found for account")

    def registered(self) -> list[RegisteredNode]:
        self._must_be_up()
        return list(self._nodes)

    def _must_be_up(self) -> None:
        if not self.up:
            raise NightError("The SuperLink doesn't answer")
