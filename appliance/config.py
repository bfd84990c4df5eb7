"""A camera's settings: sitecam.toml, resolved once into frozen dataclasses."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import ConfigError
from appliance.night_window import is_time
from appliance.settings_file import check_ranges, load_settings

DEFAULT_PATH = Path("/etc/sitecam/sitecam.toml")


@dataclass(frozen=True)
class CameraSettings:
    """Where frames come from.

    Attributes:
        name: What people call this camera.
        source: ``picamera2`` for the Pi's camera, ``folder`` to replay pictures or a video.
        path: The folder or video file, for ``folder``.
        rate_fps: Frames per second.
        hold_frames: Show each picture of a folder for so many frames.
        shuffle: Replay a folder in a mixed order, the same at every start; else by name.
        width: Of the picture for people and store, pixels (picamera2 only).
        height: Likewise.
        capture_timeout_s: A capture that takes longer is a fault; the camera is opened again.
        restart_after_s: No picture for so long, however often it is opened again: the process ends, to be started
            afresh.
        reboot_after_restarts: So many such restarts in a row without a picture: a reboot is asked for. 0: never.
    """

    name: str
    source: Literal["picamera2", "folder"] = "picamera2"
    path: Path = Path()
    rate_fps: float = 10.0
    hold_frames: int = 1
    shuffle: bool = False
    width: int = 1280
    height: int = 960
    capture_timeout_s: float = 5.0
    restart_after_s: float = 60.0
    reboot_after_restarts: int = 5


@dataclass(frozen=True)
class ModelSettings:
    """How the model runs.

    Attributes:
        threads: CPU threads for one inference.
        sure_above: A label is said only where its score is above this, 0 to 1.
        start_deadline_s: A new ``.eim`` that hasn't said hello by then has failed.
        reply_deadline_s: Likewise for one answer.
        soak_decisions: So many decisions must succeed before a new version counts as accepted.
        margin: Share of the own test frames that may get worse with a new version, 0 to 1.
        memory_mb: An ``.eim`` may have so much memory of its own; 0 for no limit.
    """

    threads: int = 1
    sure_above: float = 0.6
    start_deadline_s: float = 60.0
    reply_deadline_s: float = 5.0
    soak_decisions: int = 150
    margin: float = 0.05
    memory_mb: int = 400


@dataclass(frozen=True)
class AlarmSettings:
    """When a label becomes an event.

    Attributes:
        label: The label that people must hear of.
        agree: An event begins when so many ...
        of: ... of the last so many decisions say it.
        quiet_s: It ends when none has said it for so long.
        familiar: Frames unlike anything this camera was taught are called unsure.
    """

    label: str = "head"
    agree: int = 3
    of: int = 5
    quiet_s: float = 5.0
    familiar: bool = True


@dataclass(frozen=True)
class PageSettings:
    """Where the page is.

    Attributes:
        host: An address of this machine; "0.0.0.0" or "::" for all of them.
        port: TCP; 4912 is the port that Edge Impulse's users know.
        names: Names and addresses under which people open the page, beside ``host``, this machine's name and
            ``NAME.local``. Requests under any other name are refused.
        https: Off only on a loopback host.
        time_zone: For times on screens, an IANA name.
    """

    host: str = "127.0.0.1"
    port: int = 4912
    names: tuple[str, ...] = ()
    https: bool = True
    time_zone: str = "UTC"


@dataclass(frozen=True)
class StoreSettings:
    """What is kept of the frames that the camera sees.

    Attributes:
        record: Keep frames of the live loop for people to label.
        budget_mb: Pictures, thumbnails and features together stay below this.
        floor_mb: So much of the disk stays free, whoever fills it.
        per_hour: So many live frames are kept at most, beside those of events.
        random_share: So many of them are drawn at random, whatever the model says: only they measure the truth.
        batch_s: Frames wait so long in memory, to be written together; a power cut costs at most these.
        unlabelled_days: Frames that nobody labelled are deleted after so many days.
    """

    record: bool = True
    budget_mb: int = 4000
    floor_mb: int = 1000
    per_hour: int = 30
    random_share: float = 0.25
    batch_s: float = 30.0
    unlabelled_days: int = 60


@dataclass(frozen=True)
class LabellingSettings:
    """What people are asked.

    Attributes:
        per_day: Frames in a day's queue: a dozen takes about two minutes.
        random_share: So many of them are frames that were kept at random.
    """

    per_day: int = 12
    random_share: float = 0.25


@dataclass(frozen=True)
class EventSettings:
    """How long events stay.

    Attributes:
        days: Events and their snapshots are deleted after so many days.
        most: So many are kept at most.
        snapshots: Keep a picture of each.
    """

    days: int = 90
    most: int = 5000
    snapshots: bool = True


@dataclass(frozen=True)
class MqttSettings:
    """Events and state for an MQTT broker, with Home Assistant's discovery.

    Attributes:
        host: The broker; empty for none.
        port: TCP; 8883 with TLS.
        tls: Encrypted, the broker's certificate checked.
        ca: Authority of the broker's certificate, a PEM file; the system's where it is left out.
        user: Empty for none.
        password_file: Holds the password, readable by the service's user only.
        topic: Everything is published below this and the camera's name.
        discovery: Home Assistant's prefix; empty for no discovery.
        snapshots: Publish pictures of events too: they leave this camera then.
    """

    host: str = ""
    port: int = 8883
    tls: bool = True
    ca: Path = Path()
    user: str = ""
    password_file: Path = Path()
    topic: str = "sitecam"
    discovery: str = "homeassistant"
    snapshots: bool = False


@dataclass(frozen=True)
class WebhookSettings:
    """Events for an HTTP server.

    Attributes:
        url: https://, or http:// on loopback; empty for none.
        secret_file: Holds the secret that signs every request, readable by the service's user only.
        ca: Authority of the server's certificate, a PEM file; the system's where it is left out.
        deadline_s: For one try.
        give_up_after_s: A message that could not be delivered for so long is dropped, and said so.
    """

    url: str = ""
    secret_file: Path = Path()
    ca: Path = Path()
    deadline_s: float = 10.0
    give_up_after_s: float = 86400.0


@dataclass(frozen=True)
class NightSettings:
    """The night shift.

    Attributes:
        begins: When this camera looks for tonight's night at the earliest, HH:MM in the site's time.
        ends: When it stops, HH:MM; before ``begins`` where the night goes over midnight.
        min_frames: With fewer labelled frames than this the camera tells the server so, and does not train.
        swap_deadline_s: How long a night waits for the camera's verdict on a new version.
        threads: CPU threads for the backbone at night.
        runtime_port: Loopback port between SuperNode and its executor; 0 picks a free one.
    """

    begins: str = "01:00"
    ends: str = "05:00"
    min_frames: int = 10
    swap_deadline_s: float = 240.0
    threads: int = 1
    runtime_port: int = 0


@dataclass(frozen=True)
class Settings:
    """Everything in sitecam.toml.

    Attributes:
        state_dir: Frames, models, keys.
        camera: ``[camera]``
        model: ``[model]``
        alarm: ``[alarm]``
        page: ``[page]``
        store: ``[store]``
        labelling: ``[labelling]``
        events: ``[events]``
        mqtt: ``[mqtt]``
        webhook: ``[webhook]``
        night: ``[night]``
    """

    state_dir: Path
    camera: CameraSettings
    model: ModelSettings = ModelSettings()
    alarm: AlarmSettings = AlarmSettings()
    page: PageSettings = PageSettings()
    store: StoreSettings = StoreSettings()
    labelling: LabellingSettings = LabellingSettings()
    events: EventSettings = EventSettings()
    mqtt: MqttSettings = MqttSettings()
    webhook: WebhookSettings = WebhookSettings()
    night: NightSettings = NightSettings()


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Read a camera's settings.

    Raises:
        ConfigError: See :func:`appliance.settings_file.load_settings`; also values out of their range.
    """
    settings = load_settings(path, Settings)
    ranges = {
        "camera.rate_fps": 0 < settings.camera.rate_fps <= 1000,
        "camera.hold_frames": settings.camera.hold_frames >= 1,
        "camera.width": 64 <= settings.camera.width <= 8192,
        "camera.height": 64 <= settings.camera.height <= 8192,
        "camera.capture_timeout_s": settings.camera.capture_timeout_s > 0,
        "camera.restart_after_s": settings.camera.restart_after_s > settings.camera.capture_timeout_s,
        "camera.reboot_after_restarts": settings.camera.reboot_after_restarts >= 0,
        "alarm.agree": 1 <= settings.alarm.agree <= settings.alarm.of,
        "alarm.of": 1 <= settings.alarm.of <= 1000,
        "alarm.quiet_s": settings.alarm.quiet_s > 0,
        "model.threads": 1 <= settings.model.threads <= 64,
        "model.sure_above": 0 <= settings.model.sure_above < 1,
        "model.start_deadline_s": settings.model.start_deadline_s > 0,
        "model.reply_deadline_s": settings.model.reply_deadline_s > 0,
        "model.soak_decisions": settings.model.soak_decisions >= 1,
        "model.margin": 0 < settings.model.margin < 1,
        "model.memory_mb": settings.model.memory_mb == 0 or settings.model.memory_mb >= 64,
        "page.port": 1 <= settings.page.port <= 65535,
        "store.budget_mb": settings.store.budget_mb >= 50,
        "store.floor_mb": settings.store.floor_mb >= 0,
        "store.per_hour": 0 <= settings.store.per_hour <= 3600,
        "store.random_share": 0 < settings.store.random_share <= 1,
        "store.batch_s": 0 <= settings.store.batch_s <= 3600,
        "store.unlabelled_days": settings.store.unlabelled_days >= 1,
        "labelling.per_day": 1 <= settings.labelling.per_day <= 1000,
        "labelling.random_share": 0 < settings.labelling.random_share <= 1,
        "events.days": settings.events.days >= 1,
        "events.most": settings.events.most >= 10,
        "mqtt.port": 1 <= settings.mqtt.port <= 65535,
        "webhook.deadline_s": 0 < settings.webhook.deadline_s <= 300,
        "webhook.give_up_after_s": settings.webhook.give_up_after_s >= 1,
        "night.begins": is_time(settings.night.begins),
        "night.ends": is_time(settings.night.ends) and settings.night.ends != settings.night.begins,
        "night.min_frames": settings.night.min_frames >= 1,
        "night.swap_deadline_s": settings.night.swap_deadline_s > 0,
        "night.threads": 1 <= settings.night.threads <= 64,
        "night.runtime_port": 0 <= settings.night.runtime_port <= 65535,
    }
    check_ranges(path, ranges)
    if not settings.camera.name.strip():
        raise ConfigError(f"{path}: camera.name is empty", do="Name the camera as people call it")
    try:
        zoneinfo.ZoneInfo(settings.page.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"{path}: page.time_zone {settings.page.time_zone!r} is unknown",
            do='Write it like "Europe/Berlin"',
        ) from error
    return settings
