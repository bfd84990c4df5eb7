"""The server's settings: sitecam-server.toml, resolved once into frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import ConfigError
from appliance.models.manifest import DEFAULT_LABELS
from appliance.night_window import is_time
from appliance.settings_file import check_ranges, load_settings
from appliance.vision import ResizeMode

DEFAULT_PATH = Path("/etc/sitecam/sitecam-server.toml")
CONFIG_VARIABLE = "SITECAM_SERVER_CONFIG"  # tells the ServerApp, which Flower starts, which file to read

_SAFE = ("https://", "http://127.0.0.1:")  # a key travels there

Precision = Literal["float32", "int8"]
Canary = Literal["never", "unsure", "always"]
StrategyName = Literal["fedavg", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg", "krum"]


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
    labels: tuple[str, ...] = DEFAULT_LABELS
    hidden_units: int = 0
    resize_mode: ResizeMode = "fit-shortest"
    backbone: Path = Path()
    precision: Precision = "float32"
    representative: Path = Path()


@dataclass(frozen=True)
class SuperLinkSettings:
    """Where the SuperLink is.

    Attributes:
        host: Name or address by which cameras reach the server; goes into its certificate.
        port: TCP.
        listen: Address to listen on. Loopback: Flower's Runtime API on the same port answers without a login.
    """

    host: str = "127.0.0.1"
    port: int = 9443
    listen: str = "127.0.0.1"


@dataclass(frozen=True)
class ProxySettings:
    """The TLS proxy that lets other machines in, see server/proxy.py.

    Attributes:
        port: Where cameras reach the server; 0: no proxy, cameras on this machine only.
        page_port: Where people reach the fleet page; 0: on this machine only.
        listen: Addresses to listen on.
    """

    port: int = 0
    page_port: int = 0
    listen: tuple[str, ...] = ("0.0.0.0", "[::]")  # noqa: S104  # that is what a proxy is for


@dataclass(frozen=True)
class PageSettings:
    """The fleet page, see server/fleet/.

    Attributes:
        port: TCP; HTTPS with the server's own certificate.
        listen: Address to listen on. Loopback: the proxy lets others in.
        time_zone: The site's, as an IANA name.
    """

    port: int = 4911
    listen: str = "127.0.0.1"
    time_zone: str = "UTC"


@dataclass(frozen=True)
class StudioSettings:
    """Edge Impulse Studio, see server/studio/; nobody asks it anything but the commands of that name.

    Attributes:
        key_file: Holds the project's API key; unset: Studio is off.
        endpoint: Where its interface is.
        ingestion: Where samples are sent.
        job_deadline_s: How long one of its jobs may take.
    """

    key_file: Path = Path()
    endpoint: str = "https://studio.edgeimpulse.com/v1"
    ingestion: str = "https://ingestion.edgeimpulse.com"
    job_deadline_s: float = 1800.0


@dataclass(frozen=True)
class NightSettings:
    """How a night goes.

    Attributes:
        begins: When the night is held, HH:MM in the site's time (``page.time_zone``).
        window_s: A night ends by itself after so long, whatever happens in it.
        rounds: Few, with real work in each: a round costs seconds of waiting.
        epochs: Passes over a camera's frames per round.
        rate: Adam's step.
        smoothing: Of the targets, see trainer.head.Recipe.
        strategy: How replies become one head, see server/strategy.py.
        proximal: FedProx's mu: how strongly a camera is held to the global head.
        server_rate: FedAdam's step.
        trim: Share of the replies that FedTrimmedAvg leaves out at each end, per number.
        malicious: Replies that Krum is prepared to be lied to by.
        exact_start: Begin the fleet's first night from class means (FedNCM), for a linear head.
        quorum: A night with fewer cameras ready than this is not held.
        quorum_deadline_s: How long to wait for cameras; with all enrolled ones ready it starts at once.
        cameras_per_round: At most so many are asked to train or to test at once, by lot.
        min_replies: A round with fewer good replies than this ends the night without a model. With 1, a round's
            average may be one camera's own head, and so may what is published.
        round_deadline_s: A camera that hasn't answered by then is left out of the round.
        verdict_deadline_s: How long to wait for verdicts on a published version.
        max_examples: More than this from one camera is not believed.
        min_examples: Labelled frames below which a camera's reply is not used.
        norm_multiple: An update this many times larger than the round's median is not used.
        bad_nights: So many in a row with replies that can't be used put a camera on hold.
        margin: Share of test frames that may get worse before a model counts as worse, 0 to 1.
        canary: When one camera has the new model first, and the others once it has accepted: never, unsure (the
            gate can't tell whether the model is worse), always.
    """

    begins: str = "01:15"
    window_s: float = 3.5 * 3600.0
    rounds: int = 3
    epochs: int = 30
    rate: float = 0.003
    smoothing: float = 0.0
    strategy: StrategyName = "fedprox"
    proximal: float = 0.01
    server_rate: float = 0.1
    trim: float = 0.2
    malicious: int = 1
    exact_start: bool = True
    quorum: int = 2
    quorum_deadline_s: float = 900.0
    cameras_per_round: int = 100
    min_replies: int = 2
    round_deadline_s: float = 900.0
    verdict_deadline_s: float = 300.0
    max_examples: int = 10_000
    min_examples: int = 1
    norm_multiple: float = 10.0
    bad_nights: int = 3
    margin: float = 0.05
    canary: Canary = "unsure"


@dataclass(frozen=True)
class PrivacySettings:
    """Differential privacy of the global model, camera by camera; see server/privacy.py.

    Attributes:
        noise_multiplier: Standard deviation of the noise as a multiple of the clipping norm; 0: no noise.
        clipping_norm: Larger updates are scaled down to this Euclidean norm.
        delta: The probability that epsilon doesn't hold.
    """

    noise_multiplier: float = 0.0
    clipping_norm: float = 1.0
    delta: float = 1e-5


@dataclass(frozen=True)
class ServerSettings:
    """Everything in sitecam-server.toml.

    Attributes:
        state_dir: Keys, models, test frames, registry.
        fleet: ``[fleet]``
        superlink: ``[superlink]``
        proxy: ``[proxy]``
        page: ``[page]``
        night: ``[night]``
        privacy: ``[privacy]``
        studio: ``[studio]``
    """

    state_dir: Path
    fleet: FleetSettings
    superlink: SuperLinkSettings = SuperLinkSettings()
    proxy: ProxySettings = ProxySettings()
    page: PageSettings = PageSettings()
    night: NightSettings = NightSettings()
    privacy: PrivacySettings = PrivacySettings()
    studio: StudioSettings = StudioSettings()


def load(path: Path = DEFAULT_PATH) -> ServerSettings:
    """Read the server's settings.

    Raises:
        ConfigError: See :func:`appliance.settings_file.load_settings`; also values out of their range.
    """
    settings = load_settings(path, ServerSettings)
    fleet, night, proxy, privacy = settings.fleet, settings.night, settings.proxy, settings.privacy
    ranges = {
        "fleet.name": bool(fleet.name.strip()),
        "fleet.labels": len(set(fleet.labels)) == len(fleet.labels) >= 2 and all(fleet.labels),
        "fleet.hidden_units": 0 <= fleet.hidden_units <= 4096,
        "superlink.port": 1 <= settings.superlink.port <= 65535,
        "superlink.listen": settings.superlink.listen in ("127.0.0.1", "::1"),
        "proxy.port": 0 <= proxy.port <= 65535,
        "proxy.page_port": 0 <= proxy.page_port <= 65535,
        "proxy.listen": bool(proxy.listen) and all(proxy.listen),
        "page.port": 1 <= settings.page.port <= 65535,
        "page.listen": settings.page.listen in ("127.0.0.1", "::1"),
        "night.begins": is_time(night.begins),
        "night.window_s": night.window_s > 0,
        "night.rounds": 1 <= night.rounds <= 1000,
        "night.epochs": 1 <= night.epochs <= 1000,
        "night.rate": 0 < night.rate < 1,
        "night.smoothing": 0 <= night.smoothing < 1,
        "night.proximal": night.proximal >= 0,
        "night.server_rate": night.server_rate > 0,
        "night.trim": 0 < night.trim < 0.5,
        "night.malicious": night.malicious >= 1,
        "night.quorum": night.quorum >= 1,
        "night.cameras_per_round": night.cameras_per_round >= 1,
        "night.min_replies": night.min_replies >= 1,
        "night.max_examples": night.max_examples >= 1,
        "night.min_examples": night.min_examples >= 1,
        "night.norm_multiple": night.norm_multiple > 1,
        "night.bad_nights": night.bad_nights >= 1,
        "night.margin": 0 < night.margin < 1,
        "night.quorum_deadline_s": night.quorum_deadline_s > 0,
        "night.round_deadline_s": night.round_deadline_s > 0,
        "night.verdict_deadline_s": night.verdict_deadline_s > 0,
        "privacy.noise_multiplier": privacy.noise_multiplier >= 0,
        "privacy.clipping_norm": privacy.clipping_norm > 0,
        "privacy.delta": 0 < privacy.delta < 1,
        "studio.endpoint": settings.studio.endpoint.startswith(_SAFE),
        "studio.ingestion": settings.studio.ingestion.startswith(_SAFE),
        "studio.job_deadline_s": settings.studio.job_deadline_s > 0,
    }
    check_ranges(path, ranges)
    if privacy.noise_multiplier and (night.exact_start or night.strategy not in ("fedavg", "fedprox")):
        raise ConfigError(
            f"{path}: privacy.noise_multiplier is set, with night.exact_start on or night.strategy {night.strategy}",
            means="The noise would promise more than it keeps: class means travel without it, and other strategies"
            " don't give every camera the share that it is made for",
            do='Set night.exact_start = false, and night.strategy to "fedavg" or "fedprox"',
        )
    if fleet.precision == "int8" and fleet.representative == Path():
        raise ConfigError(
            f"{path}: fleet.precision is int8, and fleet.representative is not set",
            means="An int8 backbone must be shown pictures of what the cameras will see",
            do='Set fleet.representative to a folder of such pictures, or fleet.precision to "float32"',
        )
    return settings
