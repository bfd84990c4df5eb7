"""What became of a night, a version or a camera, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from appliance.models.verdict import Verdict
from server.roster import EnrolledCamera
from trainer.messages import CameraStatus

_NAMED = 3  # more cameras or reasons than this are counted, not named

# As appliance/judge.py says it; a test keeps the two together.
_WORSE = re.compile(
    r"worse on this camera's own test frames(?: of (?P<label>.+?))?:"
    r" (?P<after>\d+) of (?P<frames>\d+) right, (?P<before>\d+) before",
    re.IGNORECASE,
)


def verdict_sentence(verdicts: Mapping[str, Verdict | None], fleet: Collection[str] | None = None) -> str:
    """What the cameras made of a version.

    "accepted on 4; kept the old model on gate-2: hardhat recall fell from 96 % to 89 % on its own frames"

    Args:
        verdicts: By camera; None for one that did not answer.
        fleet: Names of the cameras that belong to the fleet now; others are marked. None: nobody is.
    """
    if not verdicts:
        return "no camera has been asked"

    def named(camera: str) -> str:
        return camera if fleet is None or camera in fleet else f"{camera} (no longer in the fleet)"

    given = {named(camera): verdict for camera, verdict in verdicts.items() if verdict is not None}
    accepted = [camera for camera, verdict in given.items() if verdict.accepted]
    refused = {camera: verdict_reason(verdict) for camera, verdict in given.items() if verdict.quarantined}
    waiting = {
        camera: verdict_reason(verdict)
        for camera, verdict in given.items()
        if not verdict.accepted and not verdict.final
    }
    silent = [named(camera) for camera, verdict in verdicts.items() if verdict is None]
    parts = []
    if accepted:
        everybody = len(accepted) == len(verdicts) > 1
        parts.append(f"accepted on all {len(accepted)}" if everybody else f"accepted on {len(accepted)}")
    if refused:
        parts.append(f"kept the old model on {_with_reasons(refused)}")
    if waiting:
        parts.append(f"waits on {_with_reasons(waiting)}")
    if silent:
        parts.append(f"no answer from {listed(silent)}")
    return "; ".join(parts)


def verdict_reason(verdict: Verdict) -> str:
    """A camera's reason as the end of a sentence, in shares where it counted its own frames."""
    found = _WORSE.search(verdict.reason)
    if found is not None and int(found["frames"]):
        frames = int(found["frames"])
        before, after = _shares(int(found["before"]) / frames, int(found["after"]) / frames)
        what = f"{found['label']} recall" if found["label"] else "accuracy"
        return f"{what} fell from {before} to {after} on its own frames"
    first = re.split(r"(?<=[a-z0-9)%])\. ", verdict.reason.strip(), maxsplit=1)[0].rstrip(".")
    return without_capital(first) or "it gave no reason"


def camera_sentence(
    camera: EnrolledCamera,
    status: CameraStatus | None,
    *,
    there_last_night: bool,
    any_night: bool,
    refused: Verdict | None = None,
) -> tuple[str, str]:
    """How a camera is, and how much that matters: "good", "calm" or "alert".

    Args:
        camera: From the roster.
        status: Its last word; None where it never had one.
        there_last_night: Whether that was in the fleet's latest night.
        any_night: Whether the fleet ever held one since the camera came.
        refused: Its verdict on the version of that night, where it did not take it.
    """
    if camera.held_utc is not None:
        return f"On hold: {full_stop(without_capital(camera.held_why) or 'a person must look at it')}", "alert"
    if status is None:
        if any_night:
            return "Has not come to a night yet. Is it switched on, and does it reach this server?", "alert"
        return "Waits for its first night.", "calm"
    if status.health:
        return full_stop(capital(status.health)), "alert"
    if not there_last_night:
        return "Was not there last night.", "alert"
    if camera.bad_nights:
        nights = "night" if camera.bad_nights == 1 else f"{camera.bad_nights} nights"
        return f"Sent something that could not be used, in its last {nights}.", "alert"
    if refused is not None:
        does = "Did not take" if refused.final else "Waits with"
        return f"{does} version {refused.version}: {full_stop(verdict_reason(refused))}", "calm"
    if status.objection:
        return f"Did not train: {full_stop(without_capital(status.objection))}", "calm"
    return "Took part last night.", "good"


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"; with many, "a, b, c and 40 more"."""
    shown, more = list(names[:_NAMED]), len(names) - _NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def capital(text: str) -> str:
    """The same with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def without_capital(text: str) -> str:
    """The same as it stands within a sentence: "Version 7" and "SIGKILL" stay."""
    plain = text[1:2].islower() or text[1:2] == " "
    return text if not plain or text.startswith("Version ") else text[:1].lower() + text[1:]


def full_stop(text: str) -> str:
    """The same with one at its end."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _with_reasons(reasons: Mapping[str, str]) -> str:
    """ "a and b: one reason, and on c: another"; cameras of one reason together, the commonest first."""
    groups: dict[str, list[str]] = {}
    for camera, reason in reasons.items():
        groups.setdefault(reason, []).append(camera)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    texts = [f"{listed(cameras)}: {reason}" for reason, cameras in ordered[:_NAMED]]
    rest = sum(len(cameras) for _, cameras in ordered[_NAMED:])
    return ", and on ".join([*texts, f"{rest} more"] if rest else texts)


def _shares(before: float, after: float) -> tuple[str, str]:
    """Both in whole per cent, or with a decimal where they would look alike."""
    for digits in (0, 1):
        texts = f"{100 * before:.{digits}f} %", f"{100 * after:.{digits}f} %"
        if texts[0] != texts[1]:
            break
    return texts
