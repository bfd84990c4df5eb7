"""The server's settings: sitecam-server.toml, resolved once into frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import ConfigError
from appliance.settings_file import check_ranges, load_settings
from appliance.vision import ResizeMode

DEFAULT_PATH = Path("/etc/sitecam/sitecam-server.toml")
CONFIG_VARIABLE = "SITECAM_SERVER_CONFIG"  # tells the ServerApp, which Flower starts, which file to read

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class FleetSettings:
    """What all cameras of the fleet share; fixed once version 1 exists.

    Attributes:
        name: As people call the fleet.
        labels: What a frame can be, in the order of the head's outputs.
        hidden_units: Of the head; 0 is a linear one: as good, and the smallest to send.
        resize_mode: How a frame becomes square: fit-shortest, fit-longest or squash.
        backbone: Keras weights file of MobileNetV2; where it isn't set, see server/backbone.py.
        precision: Of the backbone's arithmetic: int8 is a quarter of the size, and on a Pi the faster one.
        representative: Folder of pictures that show what cameras will see; int8's ranges are measured on them.
    """

    name: str
    labels: tuple[str, ...] = ("head", "hardhat", "nobody")
    hidden_units: int = 0
    resize_mode: ResizeMode = "fit-shortest"
    backbone: Path = Path()
    precision: Precision = "float32"
    representative: Path = Path()


@dataclass(frozen=True)
class SuperLinkSettings:
    """Where the SuperLink is.

    Attributes:
        host: Name or address by which cameras reach it; goes into its certificate.
        port: TCP.
        listen: Address to listen on. Loopback: Flower's Runtime API on the same port answers without a login.
    """

    host: str = "127.0.0.1"
    port: int = 9443
    listen: str = "127.0.0.1"


@dataclass(frozen=True)
class NightSettings:
    """How a night goes.

    Attributes:
        rounds: Few, with real work in each: a round costs seconds of waiting.
        epochs: Passes over a camera's frames per round.
        rate: Adam's step.
        smoothing: Of the targets, see trainer.head.Recipe.
        quorum: A night with fewer cameras ready than this is not held.
        quorum_deadline_s: How long to wait for cameras; with all enrolled ones ready it starts at once.
        min_replies: A round with fewer good replies than this ends the night without a model.
        round_deadline_s: A camera that hasn't answered by then is left out of the round.
        verdict_deadline_s: How long to wait for verdicts on a published version.
        max_examples: More than this from one camera is not believed.
    """

    rounds: int = 3
    epochs: int = 30
    rate: float = 0.003
    smoothing: float = 0.0
    quorum: int = 2
    quorum_deadline_s: float = 900.0
    min_replies: int = 1
    round_deadline_s: float = 900.0
    verdict_deadline_s: float = 300.0
    max_examples: int = 100_000


@dataclass(frozen=True)
class ServerSettings:
    """Everything in sitecam-server.toml.

    Attributes:
        state_dir: Keys, models, test frames, registry.
        fleet: ``[fleet]``
        superlink: ``[superlink]``
        night: ``[night]``
    """

    state_dir: Path
    fleet: FleetSettings
    superlink: SuperLinkSettings
    night: NightSettings


def load(path: Path = DEFAULT_PATH) -> ServerSettings:
    """Read the server's settings.

    Raises:
        ConfigError: See :func:`appliance.settings_file.load_settings`; also values out of their range.
    """
    settings = load_settings(path, ServerSettings)
    fleet, night = settings.fleet, settings.night
    ranges = {
        "fleet.name": bool(fleet.name.strip()),
        "fleet.labels": len(set(fleet.labels)) == len(fleet.labels) >= 2 and all(fleet.labels),
        "fleet.hidden_units": 0 <= fleet.hidden_units <= 4096,
        "superlink.port": 1 <= settings.superlink.port <= 65535,
        "superlink.listen": settings.superlink.listen in ("127.0.0.1", "::1"),
        "night.rounds": 1 <= night.rounds <= 1000,
        "night.epochs": 1 <= night.epochs <= 1000,
        "night.rate": 0 < night.rate < 1,
        "night.smoothing": 0 <= night.smoothing < 1,
        "night.quorum": night.quorum >= 1,
        "night.min_replies": night.min_replies >= 1,
        "night.max_examples": night.max_examples >= 1,
        "night.quorum_deadline_s": night.quorum_deadline_s > 0,
        "night.round_deadline_s": night.round_deadline_s > 0,
        "night.verdict_deadline_s": night.verdict_deadline_s > 0,
    }
    check_ranges(path, ranges)
    if fleet.precision == "int8" and fleet.representative == Path():
        raise ConfigError(
            f"{path}: fleet.precision is int8, and fleet.representative is not set",
            means="An int8 backbone must be shown pictures of what the cameras will see",
            do='Set fleet.representative to a folder of such pictures, or fleet.precision to "float32"',
        )
    return settings
