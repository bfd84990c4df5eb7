"""What the page shows, as JSON: the fleet, its nights, its versions.

Times are given twice where a program could want them: ``*_utc`` in ISO 8601, and beside it as people read them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from appliance.join_code import short
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server.config import ServerSettings
from server.fleet import sentences
from server.fleet.boards import board_view
from server.fleet.gatekeeping import Gatekeeper
from server.fleet.history import History, LastWord
from server.fleet.times import last_seen, parse_utc, site_day, site_time, site_zone
from server.paths import ServerPaths
from server.registry import ModelRecord, NightRecord, Registry, ReplyRecord, RoundRecord
from server.roster import EnrolledCamera, Roster

_OUTCOMES = {
    "published": ("New version", "good"),
    "deployed": ("Cameras brought up to date", "calm"),
    "kept": ("Kept the old model", "calm"),
    "no quorum": ("Too few cameras", "alert"),
    "refused": ("Refused by the cameras", "alert"),
    "failed": ("Failed", "alert"),
}
_MODEL_OUTCOMES = {
    "published": ("Published", "good"),
    "canary": ("On trial on one camera", "unsure"),
    "withdrawn": ("Withdrawn", "alert"),
}
_NIGHTS = 400
_STEPS = {"train": "training", "test": "testing", "means": "class means"}


class Views:
    """Reads the registry for the page.

    Args:
        settings: The server's.
        admission: Who may join.
        clock: The time, timezone-aware UTC.

    Raises:
        ConfigError: The time zone is unknown.
    """

    def __init__(
        self,
        settings: ServerSettings,
        admission: Gatekeeper,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._paths = ServerPaths(settings.state_dir)
        self._admission = admission
        self._clock = clock
        self._zone: tzinfo = site_zone(settings.page.time_zone)
        self.registry = Registry(self._paths.registry)
        self._roster = Roster(self._paths.registry)
        self._history = History(self._paths.registry)
        self._sentences: dict[tuple[int, int], str] = {}  # of nights that are over, which nothing changes any more

    # The fleet

    def fleet(self) -> dict[str, Any]:
        """Cameras, who asks to join, and what stands over all."""
        now = self._clock()
        everyone = self._roster.cameras(revoked=True)
        latest = next(iter(self.registry.nights(limit=1)), None)
        words, running = self._history.last_words(), self._running()
        return {
            "fleet": self._settings.fleet.name,
            "labels": list(self._settings.fleet.labels),
            "clock": now.astimezone(self._zone).strftime("%H:%M"),
            "version": running,
            "night": None if latest is None else self._night(latest, None, now),
            "cameras": [
                self._camera(camera, words.get(camera.name), latest, running, now)
                for camera in everyone
                if camera.revoked_utc is None
            ],
            "revoked": [
                {"name": camera.name, "when": self._time(camera.revoked_utc, now), "why": camera.revoked_why}
                for camera in everyone
                if camera.revoked_utc is not None
            ],
            "privacy": self._privacy(),
            **self._asking(now),
        }

    def _camera(
        self,
        camera: EnrolledCamera,
        word: LastWord | None,
        latest: NightRecord | None,
        running: int | None,
        now: datetime,
    ) -> dict[str, Any]:
        if word is not None and word.at_utc < camera.enrolled_utc:
            word = None  # another camera had that name before
        status = None if word is None else word.status
        any_night = latest is not None and latest.began_utc >= camera.enrolled_utc
        there = word is not None and latest is not None and word.night == latest.id
        sentence, tone = sentences.camera_sentence(
            camera, status, there_last_night=there, any_night=any_night, refused=word.refused if word else None
        )
        version = None if word is None else word.version or None
        return {
            "name": camera.name,
            "seen_utc": word and word.at_utc,
            "seen": last_seen(
                word.at_utc if word else None,
                now,
                self._zone,
                tonight=there and latest is not None and latest.outcome is None,
            ),
            "version": version,
            "newest": version is not None and version == running,
            "train": dict(status.train_frames) if status else {},
            "test": dict(status.test_frames) if status else {},
            "board": board_view(status.board if status else None),
            "sentence": sentence,
            "tone": tone,
            "held": camera.held_utc is not None,
            "enrolled": self._time(camera.enrolled_utc, now),
        }

    def _asking(self, now: datetime) -> dict[str, Any]:
        return {
            "requests": [
                {
                    "id": request.id,
                    "name": request.name,
                    "fingerprint": short(request.fingerprint),
                    "address": request.address,
                    "asked": self._time(request.asked_utc, now),
                }
                for request in self._admission.requests()
                if request.decision is None
            ],
            "codes": [
                {"id": code.id, "expires_utc": code.expires_utc, "uses_left": code.uses_left}
                for code in self._admission.open_codes()
            ],
        }

    def _privacy(self) -> dict[str, Any]:
        rules, rounds, spent = self._settings.privacy, self.registry.noisy_rounds(), self._history.epsilon()
        if spent is not None:
            words = f"Noise was added in {rounds} rounds: ε = {spent:.3g} spent so far, at δ = {rules.delta:g}"
        elif rules.noise_multiplier > 0:
            words = "Noise is switched on; no round has had any yet"
        else:
            words = ""
        return {"noisy_rounds": rounds, "epsilon": spent, "delta": rules.delta, "sentence": words}

    # Nights

    def nights(self) -> dict[str, Any]:
        """The nights, newest first, each with its last round's figures."""
        now, last = self._clock(), self._history.last_rounds()
        return {
            "nights": [self._night(night, last.get(night.id), now) for night in self.registry.nights(limit=_NIGHTS)]
        }

    def night(self, number: int) -> dict[str, Any]:
        """Everything about one night.

        Raises:
            StoreError: There is none of that number.
        """
        now, night = self._clock(), self.registry.night(number)
        rounds = self.registry.rounds(number)
        model = next((model for model in self.registry.models() if model.night == number), None)
        verdicts = self.registry.verdicts(number)
        return {
            **self._night(night, rounds[-1] if rounds else None, now),
            "rounds": [self._round(record, now) for record in rounds],
            "replies": _by_camera(self.registry.replies(number)),
            "events": [
                {"at": site_time(at, now, self._zone), "text": text} for at, text in self._history.night_of(number)
            ],
            "gate": _gate(night.figures.get("gate") or {}),
            "model": None if model is None else self._model(model, now),
            "sentence": sentences.verdict_sentence(verdicts, self._names()) if verdicts else "",
            "verdicts": [
                {
                    "camera": camera,
                    "answer": _answer(verdict),
                    "reason": "" if verdict is None else verdict.reason,
                }
                for camera, verdict in verdicts.items()
            ],
        }

    def _night(self, night: NightRecord, last: RoundRecord | None, now: datetime) -> dict[str, Any]:
        words, tone = _OUTCOMES.get(night.outcome or "", ("Goes on", "unsure"))
        server = night.figures.get("server") or {}
        lasted = (
            None if not night.ended_utc else (parse_utc(night.ended_utc) - parse_utc(night.began_utc)).total_seconds()
        )
        return {
            "id": night.id,
            "name": night.name,
            "outcome": night.outcome,
            "words": words,
            "tone": tone,
            "message": night.message,
            "began_utc": night.began_utc,
            "began": self._time(night.began_utc, now),
            "day": site_day(night.began_utc, self._zone),
            "lasted_s": lasted,
            "accuracy": _accuracy(last),
            "accuracy_before": _number(server.get("accuracy_before")) if server.get("frames") else None,
            "loss": None if last is None or not last.frames else _number(last.loss),
            "frames": 0 if last is None else last.frames,
            "used": None if last is None else last.used,
            "asked": None if last is None else last.asked,
        }

    def _round(self, record: RoundRecord, now: datetime) -> dict[str, Any]:
        return {
            "round": record.round,
            "name": "Start" if record.round == 0 else str(record.round),
            "strategy": record.strategy,
            "began": self._time(record.began_utc, now),
            "seconds": _number(record.seconds),
            "asked": record.asked,
            "used": record.used,
            "frames": record.frames,
            "correct": record.correct,
            "accuracy": _accuracy(record),
            "loss": None if not record.frames else _number(record.loss),
            "epsilon": _number(record.epsilon),
        }

    # Versions

    def models(self) -> dict[str, Any]:
        """The versions that nights made, newest first."""
        now = self._clock()
        return {"version": self._running(), "models": [self._model(model, now) for model in self.registry.models()]}

    def _model(self, model: ModelRecord, now: datetime) -> dict[str, Any]:
        words, tone = _MODEL_OUTCOMES.get(model.outcome, (sentences.capital(model.outcome), "calm"))
        return {
            "version": model.version,
            "night": model.night,
            "parent": model.parent,
            "outcome": model.outcome,
            "words": words,
            "tone": tone,
            "reason": model.reason,
            "created_utc": model.created_utc,
            "created": self._time(model.created_utc, now),
            "metrics": {name: _number(value) for name, value in model.metrics.items()},
            "sentence": self._verdicts_on(model),
        }

    def _verdicts_on(self, model: ModelRecord) -> str:
        key = (model.night, model.version)
        if key not in self._sentences:
            sentence = sentences.verdict_sentence(self.registry.verdicts(*key))
            if self.registry.night(model.night).outcome is None:
                return sentence
            self._sentences[key] = sentence
        return self._sentences[key]

    # The trail

    def trail(self) -> dict[str, Any]:
        """Who did what to the fleet, newest first."""
        now = self._clock()
        return {
            "trail": [
                {"at_utc": entry.at_utc, "at": self._time(entry.at_utc, now), "who": entry.who, "text": entry.text}
                for entry in self._roster.trail(limit=500)
            ]
        }

    # Shared

    def _running(self) -> int | None:
        if not self._paths.signing_public.exists():
            return None  # before sitecam-server init
        return Shelf(self._paths.models, load_public_key(self._paths.signing_public.read_bytes())).current

    def _names(self) -> set[str]:
        return {camera.name for camera in self._roster.cameras()}

    def _time(self, at_utc: str | None, now: datetime) -> str:
        return site_time(at_utc, now, self._zone)


def _answer(verdict: Any) -> str:
    if verdict is None:
        return "no answer"
    if verdict.accepted:
        return "accepted"
    return "kept the old model" if verdict.final else "waits"


def _by_camera(replies: Sequence[ReplyRecord]) -> list[dict[str, Any]]:
    """Replies camera by camera; those with something left out come first."""
    found: dict[str, dict[str, Any]] = {}
    for reply in replies:
        row = found.setdefault(
            reply.camera, {"camera": reply.camera, "used": 0, "examples": None, "loss": None, "left_out": []}
        )
        if not reply.used:
            where = f"Round {reply.round}, {_STEPS.get(reply.kind, reply.kind)}" if reply.round else "Start"
            row["left_out"].append({"where": where, "bad": reply.bad, "reason": reply.reason})
        elif reply.kind != "test":
            row["used"] += 1
            row["examples"], row["loss"] = reply.examples, _number(reply.loss)
    return sorted(found.values(), key=lambda row: not row["left_out"])


def _gate(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate's answer in a night's figures; None before it was asked, and in nights of older releases."""
    if "outcome" not in figures:
        return None
    return {
        "outcome": str(figures["outcome"]),
        "passed": bool(figures.get("passed")),
        "reason": str(figures.get("reason", "")),
        "labels": _number(figures.get("labels") or []),
    }


def _accuracy(record: RoundRecord | None) -> float | None:
    return None if record is None or not record.frames else round(record.correct / record.frames, 5)


def _number(value: Any) -> Any:
    """JSON knows no NaN, and one would cost the reader everything."""
    if isinstance(value, Mapping):
        return {str(name): _number(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_number(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
