"""A camera's verdict on a model version: did it earn its place, and why (not)?"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from appliance.errors import ModelError
from appliance.files import write_atomically
from appliance.models.manifest import is_local

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SwapFigures:
    """What a swap cost the live loop.

    Attributes:
        frames_lost: Frames that found no model, or were dropped, from the start of the swap to its end.
        longest_gap_ms: Longest time between two decisions in that span.
        steady_p99_ms: 99th percentile of the times between decisions before it.
    """

    frames_lost: int
    longest_gap_ms: float
    steady_p99_ms: float


@dataclass(frozen=True)
class Verdict:
    """What became of a version on one camera.

    Attributes:
        version: Which.
        accepted: Whether it runs now.
        reason: One sentence for a person.
        at_utc: When, timezone-aware UTC.
        swap: Its cost; None where it never got as far as the loop.
        state: The state of the swap in which it was decided; see :mod:`appliance.models.trial`.
        final: Whether the version was at fault, or is in use: then it isn't tried again by itself. False where
            something else stood in its way, such as a full disk.
    """

    version: int
    accepted: bool
    reason: str
    at_utc: datetime
    swap: SwapFigures | None = None
    state: str = ""
    final: bool = True

    @property
    def quarantined(self) -> bool:
        """Whether the version is kept out until a person says otherwise."""
        return self.final and not self.accepted

    def to_json(self) -> str:
        """As it is stored and sent."""
        return json.dumps({**asdict(self), "at_utc": self.at_utc.isoformat()}, sort_keys=True)

    @staticmethod
    def from_json(text: str | bytes) -> Verdict:
        """Read what :meth:`to_json` wrote.

        Raises:
            ModelError: It isn't a verdict.
        """
        try:
            body = json.loads(text)
            figures = body["swap"]
            return Verdict(
                version=int(body["version"]),
                accepted=bool(body["accepted"]),
                reason=str(body["reason"]),
                at_utc=datetime.fromisoformat(body["at_utc"]),
                swap=None if figures is None else SwapFigures(**figures),
                state=str(body.get("state", "")),
                final=bool(body.get("final", True)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"A verdict can't be read ({error!r})", means="It counts as missing") from error


def write_verdict(models: Path, verdict: Verdict) -> None:
    """Keep a verdict beside the shelf it is about."""
    write_atomically(models / "verdicts" / f"{verdict.version}.json", verdict.to_json().encode())


def read_verdict(models: Path, version: int) -> Verdict | None:
    """The verdict on a version; None where there is none yet.

    Raises:
        ModelError: The file is damaged.
    """
    try:
        return Verdict.from_json((models / "verdicts" / f"{version}.json").read_bytes())
    except FileNotFoundError:
        return None


def standing_verdict(models: Path, version: int) -> Verdict | None:
    """The verdict on a version; a damaged one is none, and is logged."""
    try:
        return read_verdict(models, version)
    except ModelError as error:
        logger.warning("Version %d: %s", version, error)
        return None


def forget_verdict(models: Path, version: int) -> None:
    """Let a version be tried as if it had just come."""
    (models / "verdicts" / f"{version}.json").unlink(missing_ok=True)


def newest_verdict(models: Path) -> Verdict | None:
    """The verdict on the highest version that has one, the fleet's or a local one's, whichever was decided later.

    Returns:
        None where there is none yet.

    Raises:
        ModelError: The file is damaged.
    """
    versions = [int(path.stem) for path in (models / "verdicts").glob("*.json") if path.stem.isdigit()]
    highest = [max(kind) for local in (False, True) if (kind := [v for v in versions if is_local(v) is local])]
    found = [verdict for version in highest if (verdict := read_verdict(models, version))]
    return max(found, key=lambda verdict: verdict.at_utc, default=None)
