"""The roll of a night: which of the fleet's cameras are here, and what they said of themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from appliance.errors import NightError
from server.asking import Questions, rest
from server.registry import Registry
from server.roster import EnrolledCamera, Roster
from trainer import messages

_STATUS_S = 60.0  # for a camera to say how it is; then it is asked again
_STATUS_PER_CAMERA_S = 0.6  # more for each camera of the fleet, because all share one SuperLink
_AT_ONCE = 100  # open questions


class Roll:
    """Asks every camera that comes, once, how it is.

    Args:
        grid: Flower's.
        registry: Where their words are kept.
        roster: Who belongs to the fleet; read anew at every look, so that a revocation counts at once.
        night: The night's id.
        note: Told what happens, in sentences.
    """

    def __init__(self, grid: Grid, registry: Registry, roster: Roster, night: int, note: Callable[[str], None]) -> None:
        self._grid, self._registry, self._roster, self._night, self._note = grid, registry, roster, night, note
        self._fleet = {camera.node_id: camera for camera in roster.cameras()}
        self._online: set[int] = set()
        self._unusable: set[int] = set()  # their status could not be had; asked once a night
        self._questions = self._new_questions()
        self.statuses: dict[int, messages.CameraStatus] = {}
        self.names = {node: camera.name for node, camera in self._fleet.items()}  # of revoked ones too

    @property
    def fleet(self) -> dict[int, EnrolledCamera]:
        """The cameras that belong to the fleet, by node id."""
        return self._fleet

    def look(self) -> set[int]:
        """Ask those who have just come, take what came back; waits for nobody.

        Returns:
            Nodes that were in the fleet when the night began and aren't any longer.
        """
        now = {camera.node_id: camera for camera in self._roster.cameras()}
        for node in set(self._fleet) - set(now):
            self._note(f"{self.names[node]} was revoked and takes part no longer")
            self.statuses.pop(node, None)
        self._fleet = now
        self.names |= {node: camera.name for node, camera in now.items()}
        self._online = set(self._grid.get_node_ids())
        self._questions.drop(self._questions.open - self._online, "it went offline")
        known = set(self.statuses) | self._unusable | self._questions.open
        fresh = (self._online & set(now)) - known
        room = _AT_ONCE - len(self._questions.open)
        self._questions.send({node: RecordDict() for node in sorted(fresh)[: max(0, room)]})
        for node, reply in self._questions.collect():
            if node in now:
                self._take(node, reply)
        self._questions.missing.clear()  # they are asked again while they are online
        return set(self.names) - set(now)

    def wait(self, enough: Callable[[], bool], deadline_s: float) -> None:
        """Look until there are enough, or the deadline passes."""
        ends = time.monotonic() + deadline_s
        while True:
            looked = time.monotonic()
            self.look()
            if enough() or time.monotonic() > ends:
                return
            rest(time.monotonic() - looked)

    @property
    def complete(self) -> bool:
        """Whether every camera of the fleet has said how it is."""
        return set(self._fleet) <= set(self.statuses) | self._unusable

    def ready(self, backbone: str, min_examples: int) -> list[int]:
        """Nodes that can train now.

        Args:
            backbone: SHA-256 of the one that features must come from.
            min_examples: Labelled frames below which a camera is not asked.
        """
        return [
            node for node in self.statuses if node in self._online and not self.obstacle(node, backbone, min_examples)
        ]

    def obstacle(self, node: int, backbone: str, min_examples: int) -> str:
        """Why a camera that is here can't train, in a sentence; empty where it can."""
        status, camera = self.statuses[node], self._fleet.get(node)
        frames = sum(status.train_frames.values())
        if camera is None:
            return "it was revoked"
        if camera.held_utc:
            return f"it is on hold: {camera.held_why}"
        if status.objection:
            return status.objection
        if status.backbone != backbone:
            return "its model stands on another backbone"
        if frames < min_examples:
            return f"{frames} labelled frames, fewer than the {min_examples} that night.min_examples asks for"
        return ""

    def absence(self, backbone: str, min_examples: int) -> str:
        """For people: who is missing, and who is here and can't train."""
        ready = set(self.ready(backbone, min_examples))
        missing = sorted(camera.name for node, camera in self._fleet.items() if node not in self.statuses)
        unready = [
            f"{self.names[node]} ({(self.obstacle(node, backbone, min_examples) or 'it went offline').rstrip('.')})"
            for node in self.statuses
            if node not in ready
        ]
        return f"Missing: {', '.join(missing) or 'none'}. Not ready: {', '.join(unready) or 'none'}."

    def behind(self, version: int) -> list[int]:
        """Nodes here that run another version."""
        return [node for node, status in self.statuses.items() if node in self._online and status.version != version]

    def online(self) -> set[int]:
        """Nodes of the fleet that are here now."""
        return set(self._grid.get_node_ids()) & set(self._fleet)

    def _take(self, node: int, reply: Message) -> None:
        name = self.names[node]
        try:
            if reply.has_error():
                raise NightError(reply.error.reason or "it gave no reason")
            status = messages.CameraStatus.from_record(reply.content.config_records[messages.CONFIG])
        except (NightError, KeyError) as error:
            self._unusable.add(node)
            self._note(f"{name} can't take part: {error}".rstrip("."))
            return
        self.statuses[node] = status
        self._registry.put_status(self._night, name, status)
        frames = sum(status.train_frames.values())
        said = f"{name} is here: version {status.version}, {frames} frames to learn from."
        held = self._fleet[node].held_why if self._fleet[node].held_utc else ""
        self._note(
            " ".join(part for part in (said, status.objection, status.health, held and f"On hold: {held}") if part)
        )

    def _new_questions(self) -> Questions:
        kind = f"{MessageType.QUERY}.{messages.STATUS}"
        deadline_s = _STATUS_S + _STATUS_PER_CAMERA_S * len(self._fleet)
        return Questions(self._grid, kind, group="status", deadline_s=deadline_s)
