"""Takes a version to cameras and brings their verdicts back."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from appliance.errors import NightError, SitecamError
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict
from server.asking import ask
from server.publish import deployment
from server.registry import Registry
from server.roll import Roll
from server.window import Window
from trainer import messages

_CLOSE_S = 20.0
_WAVE = 100  # cameras that get a version at once: a SuperLink serves about a hundred requests a second


class Deployer:
    """One night's way of models to cameras.

    Args:
        grid: Flower's.
        shelf: The server's.
        registry: Where verdicts are kept.
        roll: Who is here.
        night: The night's id.
        window: The night's.
        deadline_s: For the verdicts of one wave.
        note: Told what happens, in sentences.
    """

    def __init__(
        self,
        grid: Grid,
        shelf: Shelf,
        registry: Registry,
        roll: Roll,
        night: int,
        window: Window,
        deadline_s: float,
        note: Callable[[str], None],
    ) -> None:
        self._grid, self._shelf, self._registry, self._roll = grid, shelf, registry, roll
        self._night, self._window, self._deadline_s, self._note = night, window, deadline_s, note

    def deploy(self, version: int, nodes: Iterable[int]) -> dict[int, Verdict]:
        """Send a version to these cameras, in waves; their verdicts, as far as they give one in time.

        Each verdict is in the registry as soon as it is here: a server that restarts doesn't lose it.
        """
        waiting = list(nodes)
        verdicts: dict[int, Verdict] = {}
        while waiting:
            wave, waiting = waiting[:_WAVE], waiting[_WAVE:]
            wave = [node for node in wave if node in self._roll.statuses]  # it may have been revoked meanwhile
            verdicts |= self._wave(version, wave, self._window.within(self._deadline_s))
            if waiting and self._window.left_s < 0:
                self._note(f"The night's window is over: {len(waiting)} cameras get version {version} another night")
                break
        return verdicts

    def _message(self, version: int, node: int) -> RecordDict:
        status = self._roll.statuses[node]
        return deployment(self._shelf, version, status.digests, status.board.machine if status.board else "")

    def _wave(self, version: int, nodes: list[int], deadline_s: float) -> dict[int, Verdict]:
        verdicts: dict[int, Verdict] = {}

        def take(node: int, reply: Message) -> None:
            name = self._roll.names[node]
            try:
                if reply.has_error():
                    raise NightError(reply.error.reason or "it gave no reason")
                verdict = Verdict.from_json(str(reply.content.config_records[messages.CONFIG]["verdict"]))
                if verdict.version != version:
                    raise NightError(f"its verdict is on version {verdict.version}")
            except (SitecamError, KeyError) as error:
                self._note(f"{name} gave no verdict on version {version}: {error}")
                return
            verdicts[node] = verdict
            self._registry.put_verdict(self._night, name, version, verdict)
            said = "runs" if verdict.accepted else "refused" if verdict.final else "could not try"
            where = f" in {verdict.state}" if verdict.state and not verdict.accepted else ""
            self._note(f"{name} {said} version {version}{where}: {verdict.reason}")

        answers = ask(
            self._grid,
            {node: self._message(version, node) for node in nodes},
            f"{MessageType.QUERY}.{messages.DEPLOY}",
            group="deploy",
            deadline_s=deadline_s,
            on_reply=take,
            meanwhile=self._roll.look,
        )
        for node, why in answers.missing.items():
            self._note(f"{self._roll.names[node]} gave no verdict on version {version}: {why}")
        return verdicts

    def close(self) -> None:
        """Tell the cameras that the night is over; those that don't hear it end with their own window."""
        ask(
            self._grid,
            {node: RecordDict() for node in self._roll.online()},
            f"{MessageType.QUERY}.{messages.CLOSE}",
            group="close",
            deadline_s=_CLOSE_S,
        )
