"""The camera's figures in Prometheus' text format.

Names, types and units are one table, from which docs/metrics.md is made:
``python -m appliance.metrics > docs/metrics.md``. Units are base units and the last word of a name, counters end in
``_total`` (prometheus.io, "Metric and label naming").
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.frame import Decision, Frame
from appliance.status import Status
from appliance.system import THROTTLING_KINDS, Throttling

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OUTCOMES = ("accepted", "refused", "waiting")
_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_UNSURE = "unsure"

Sample = tuple[tuple[str, ...], float]  # label values, value


@dataclass(frozen=True)
class Described:
    """One metric.

    Attributes:
        name: As scraped, a counter's without ``_total``.
        kind: Its type.
        help: What it says.
        labels: Names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


TABLE = (
    Described("sitecam_build_info", "gauge", "Always 1; the label has Sitecam's release", ("release",)),
    Described("sitecam_healthy", "gauge", "1 while the camera watches: picture and model are there"),
    Described("sitecam_process_start_timestamp_seconds", "gauge", "When the camera process started, Unix time"),
    Described("sitecam_decisions", "counter", "Frames that were decided, by what was said of them", ("label",)),
    Described("sitecam_loop_decisions_per_second", "gauge", "Of the live loop, over the last five seconds"),
    Described("sitecam_frames_dropped", "counter", "Frames that were never classified: the model was still busy"),
    Described("sitecam_answers_failed", "counter", "How often the model was asked and gave no answer"),
    Described("sitecam_inference_seconds", "histogram", "What the model took for one frame"),
    Described("sitecam_model_version", "gauge", "The version that answers; 0 while none does"),
    Described("sitecam_model_created_timestamp_seconds", "gauge", "When the fleet made that version, Unix time"),
    Described("sitecam_swaps", "counter", "New versions that were tried, by their verdict", ("outcome",)),
    Described("sitecam_alarm", "gauge", "1 while an event lasts that people must hear of"),
    Described("sitecam_events", "counter", "Events that began", ("kind",)),
    Described(
        "sitecam_condition", "gauge", "1 while pictures come but are worth little: dark, frozen, slow", ("kind",)
    ),
    Described("sitecam_temperature_celsius", "gauge", "Of the processor"),
    Described(
        "sitecam_throttled", "gauge", "1 where the board is held back: now, or since its start", ("kind", "when")
    ),
    Described("sitecam_load1", "gauge", "Programs that ran or wanted to, on average over a minute"),
    Described("sitecam_memory_available_bytes", "gauge", "What new programs could have"),
    Described("sitecam_machine_uptime_seconds", "gauge", "Since the machine's start"),
    Described("sitecam_disk_free_bytes", "gauge", "Of the disk with the camera's state"),
    Described("sitecam_written_bytes", "counter", "What the camera process made the disk write"),
    Described("sitecam_store_written_bytes", "counter", "Of which the frame store"),
    Described("sitecam_store_size_bytes", "gauge", "Pictures, thumbnails and features"),
    Described("sitecam_store_budget_bytes", "gauge", "They stay below this"),
    Described("sitecam_store_floor_bytes", "gauge", "So much of the disk stays free"),
    Described("sitecam_store_ok", "gauge", "0 where the store takes no new frames: labels fill it"),
    Described("sitecam_queue_frames", "gauge", "Frames that nobody has labelled"),
    Described("sitecam_labelled_today_frames", "gauge", "Labelled since midnight on the site's clock"),
    Described("sitecam_last_night_timestamp_seconds", "gauge", "When the last night was last heard of, Unix time"),
    Described("sitecam_last_night_ok", "gauge", "0 where the last night failed on this camera"),
    Described("sitecam_last_night_bytes", "gauge", "On the wire in the last night that ended", ("direction",)),
    Described("sitecam_viewers", "gauge", "Who watch the live picture"),
    Described("sitecam_neighbour_up", "gauge", "1 where a broker or webhook takes what it is sent", ("name",)),
    Described("sitecam_neighbour_sent_messages", "counter", "Messages that it took", ("name",)),
    Described("sitecam_neighbour_dropped_messages", "counter", "Messages that it never got", ("name",)),
    Described("sitecam_neighbour_waiting_messages", "gauge", "Messages that wait for it", ("name",)),
)
_BY_NAME = {each.name: each for each in TABLE}


class Metrics:
    """Counts what happens, and asks for the rest when somebody scrapes. A listener of the live loop.

    Args:
        status: How the camera is; :meth:`appliance.status_keeper.StatusKeeper.status`.
    """

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._lock = threading.Lock()
        self._decisions: Counter[str] = Counter()
        self._swaps: Counter[str] = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._events: Counter[str] = Counter()
        described = _BY_NAME["sitecam_inference_seconds"]
        self._inference = Histogram(described.name, described.help, buckets=_BUCKETS_S, registry=None)
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self._collect))

    def __call__(self, frame: Frame, decision: Decision | None) -> None:  # noqa: ARG002  # a listener gets both
        """Count a decision (called by the loop); takes some microseconds."""
        if decision is None:
            return
        self._inference.observe(decision.prediction.classify_ms / 1000)
        with self._lock:
            self._decisions[decision.label or _UNSURE] += 1

    def verdict_came(self, outcome: str) -> None:
        """Count a swap's end: ``accepted``, ``refused`` or ``waiting``."""
        with self._lock:
            self._swaps[outcome] += 1

    def event_began(self, kind: str) -> None:
        """Count an event."""
        with self._lock:
            self._events[kind] += 1

    def render(self) -> bytes:
        """Everything, as :data:`CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _collect(self) -> Iterator[Metric]:
        status = self._status()
        with self._lock:
            counts = {
                "sitecam_decisions": list(self._decisions.items()),
                "sitecam_swaps": list(self._swaps.items()),
                "sitecam_events": list(self._events.items()),
            }
        for name, counted in counts.items():
            yield _family(name, [((label,), count) for label, count in counted])
        yield from _without_creation(self._inference.collect())
        for name, samples in _samples(status):
            if samples:
                yield _family(name, samples)


class _Collector(Collector):
    """Prometheus' client wants an object with this one method."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """Asked at every scrape."""
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering it doesn't ask for the status."""
        return []


def _samples(status: Status) -> Iterator[tuple[str, list[Sample]]]:
    """Metric by metric; one whose value nobody knows has no samples."""
    loop, model, night = status.loop, status.model, status.night
    yield "sitecam_build_info", [((status.process.release,), 1.0)]
    yield "sitecam_healthy", _one(not status.faults)
    yield "sitecam_process_start_timestamp_seconds", _moment(status.process.started_utc)
    yield "sitecam_loop_decisions_per_second", _one(loop.decisions_per_s)
    yield "sitecam_frames_dropped", _one(loop.frames_dropped)
    yield "sitecam_answers_failed", _one(loop.answers_failed)
    yield "sitecam_model_version", _one(model.version or 0)
    yield "sitecam_model_created_timestamp_seconds", _moment(model.created_utc)
    yield "sitecam_alarm", _one(status.alarm is not None)
    lasting = {condition.kind for condition in status.conditions}
    yield "sitecam_condition", [((kind,), float(kind in lasting)) for kind in ("dark", "frozen", "slow")]
    yield "sitecam_viewers", _one(status.viewers)
    yield "sitecam_written_bytes", _one(status.written_bytes)
    yield "sitecam_last_night_timestamp_seconds", _moment(night.at_utc)
    if night.night is not None:
        yield "sitecam_last_night_ok", _one(night.phase != "failed")
        yield "sitecam_last_night_bytes", [(("up",), night.up_bytes), (("down",), night.down_bytes)]
    yield from _around(status)


def _around(status: Status) -> Iterator[tuple[str, list[Sample]]]:
    system, store, queue = status.system, status.store, status.queue
    if system is not None:
        yield "sitecam_temperature_celsius", _one(system.temperature_c)
        yield "sitecam_throttled", _throttled(system.throttling)
        yield "sitecam_load1", _one(system.load)
        yield "sitecam_memory_available_bytes", _one(system.memory_free_bytes)
        yield "sitecam_machine_uptime_seconds", _one(system.uptime_s)
        yield "sitecam_disk_free_bytes", _one(system.disk_free_bytes)
    if store is not None:
        yield "sitecam_store_written_bytes", _one(store.written_bytes)
        yield "sitecam_store_size_bytes", _one(store.size_bytes)
        yield "sitecam_store_budget_bytes", _one(store.budget_bytes)
        yield "sitecam_store_floor_bytes", _one(store.floor_bytes)
        yield "sitecam_store_ok", _one(store.state != "full")
    if queue is not None:
        yield "sitecam_queue_frames", _one(queue.waiting)
        yield "sitecam_labelled_today_frames", _one(queue.done_today)
    near = status.neighbours
    yield "sitecam_neighbour_up", [((each.name,), float(each.ok)) for each in near]
    yield "sitecam_neighbour_sent_messages", [((each.name,), each.sent) for each in near]
    yield "sitecam_neighbour_dropped_messages", [((each.name,), each.dropped) for each in near]
    yield "sitecam_neighbour_waiting_messages", [((each.name,), each.waiting) for each in near]


def _throttled(throttling: Throttling | None) -> list[Sample]:
    if throttling is None:
        return []
    return [
        ((kind, when), float(kind in kinds))
        for when, kinds in (("now", throttling.now), ("since_start", throttling.since_start))
        for kind in THROTTLING_KINDS
    ]


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [((), float(value))]


def _moment(at: datetime | None) -> list[Sample]:
    return _one(None if at is None else at.timestamp())


def _family(name: str, samples: list[Sample]) -> Metric:
    described = _BY_NAME[name]
    made = CounterMetricFamily if described.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = made(name, described.help, labels=described.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _without_creation(families: Iterable[Metric]) -> Iterator[Metric]:
    """The client adds the time of the histogram's making, which nobody needs and no table names."""
    for family in families:
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield family


def table() -> str:
    """The documentation, in Markdown."""
    rows = [
        f"| `{each.name}{'_total' if each.kind == 'counter' else ''}` | {each.kind} |"
        f" {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |"
        for each in TABLE
    ]
    return "\n".join(["| name | type | labels | what it says |", "|---|---|---|---|", *rows]) + "\n"


def document() -> str:
    """docs/metrics.md."""
    return f"""# Metrics

`GET /metrics` on the camera's page, in Prometheus' text format, for an admin who is logged in, or with the token that
`sitecam metrics-token` prints:

    scrape_configs:
      - job_name: sitecam
        scheme: https
        authorization: {{credentials_file: /etc/prometheus/sitecam.token}}
        tls_config: {{ca_file: /etc/prometheus/sitecam-ca.pem}}
        static_configs: [{{targets: ["gate-1.local:4912"]}}]

Counters begin at 0 with the camera process. A figure that the machine doesn't tell is left out, as are those of a store
or a night that nobody has seen yet.

{table()}"""


if __name__ == "__main__":
    sys.stdout.write(document())
