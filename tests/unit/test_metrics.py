from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from appliance.frame import Frame
from appliance.metrics import CONTENT_TYPE, TABLE, Metrics, document
from appliance.metrics_token import TokenCheck, metrics_token
from appliance.status import Status
from appliance.system import SystemState
from appliance.web.api.metrics import PATH, router
from tests.fakes.page_app import OneRouterPage
from tests.fakes.page_source import building_site, decision
from tests.fakes.statuses import dark, typical

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
UNITS = ("seconds", "bytes", "celsius", "messages", "frames")


def scraped(metrics: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def busy(status: Status) -> Metrics:
    """Figures after three decisions, two swaps and an event."""
    metrics = Metrics(lambda: status)
    frame = Frame(building_site((64, 48)), datetime.now(UTC), 1)
    for said in (decision("hardhat"), decision("head"), decision(None), None):
        metrics(frame, said)
    metrics.verdict_came("accepted")
    metrics.verdict_came("refused")
    metrics.event_began("seen")
    return metrics


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


@pytest.fixture
def full() -> dict[str, Metric]:
    status = replace(typical(), conditions=(dark(),), alarm="bare head seen")
    return scraped(busy(status))


def test_every_metric_of_the_table_is_scraped_with_its_type_and_no_other(full: dict[str, Metric]) -> None:
    assert {name: family.type for name, family in full.items()} == {each.name: each.kind for each in TABLE}


def test_every_metric_has_its_tables_help_and_labels(full: dict[str, Metric]) -> None:
    for each in TABLE:
        family = full[each.name]
        assert family.documentation == each.help
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(each.labels), sample


def test_the_document_lists_exactly_what_is_scraped(full: dict[str, Metric]) -> None:
    text = DOCUMENT.read_text()
    assert text == document(), "run python -m appliance.metrics > docs/metrics.md"
    documented = set(re.findall(r"^\| `(sitecam_\w+)`", text, re.MULTILINE))
    assert documented == {name + ("_total" if family.type == "counter" else "") for name, family in full.items()}


def test_names_end_in_base_units_and_counters_only_in_total(full: dict[str, Metric]) -> None:
    for name, family in full.items():
        assert re.fullmatch(r"sitecam_[a-z0-9]+(_[a-z0-9]+)*", name)
        assert not name.endswith(("_total", "_ms", "_mb", "_count", "_sum")), name
        if any(f"_{unit}" in name for unit in UNITS):
            assert (
                name.endswith(UNITS)
                or "_per_second" in name
                or name
                in (
                    "sitecam_frames_dropped",  # a count of what happened, not a measure of frames
                )
            ), name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total"}


def test_figures_are_what_the_status_says(full: dict[str, Metric]) -> None:
    def one(name: str) -> float:
        (value,) = values(full[name]).values()
        return value

    assert one("sitecam_healthy") == 1
    assert one("sitecam_loop_decisions_per_second") == 9.8
    assert one("sitecam_frames_dropped") == 3
    assert one("sitecam_answers_failed") == 1
    assert one("sitecam_model_version") == 7
    assert one("sitecam_temperature_celsius") == 48.3
    assert one("sitecam_written_bytes") == 5 * 2**20
    assert one("sitecam_store_size_bytes") == 2**30
    assert one("sitecam_queue_frames") == 31
    assert one("sitecam_viewers") == 2
    assert one("sitecam_alarm") == 1
    assert values(full["sitecam_build_info"]) == {("0.1.0",): 1}
    assert values(full["sitecam_last_night_bytes"]) == {("up",): 202000, ("down",): 90000}
    assert values(full["sitecam_condition"]) == {("dark",): 1, ("frozen",): 0, ("slow",): 0}
    assert values(full["sitecam_neighbour_dropped_messages"]) == {("mqtt",): 1}
    throttled = values(full["sitecam_throttled"])
    assert [key for key, value in throttled.items() if value] == [("under-voltage", "since_start")]
    assert len(throttled) == 8


def test_what_happens_is_counted_and_inference_time_has_its_buckets_in_seconds(full: dict[str, Metric]) -> None:
    assert values(full["sitecam_decisions"]) == {("hardhat",): 1, ("head",): 1, ("unsure",): 1}
    assert values(full["sitecam_swaps"]) == {("accepted",): 1, ("refused",): 1, ("waiting",): 0}
    assert values(full["sitecam_events"]) == {("seen",): 1}
    inference = full["sitecam_inference_seconds"]
    buckets = {sample.labels["le"]: sample.value for sample in inference.samples if sample.name.endswith("_bucket")}
    assert (buckets["0.005"], buckets["0.01"], buckets["+Inf"]) == (0, 3, 3)  # 5.2 ms each
    assert next(sample.value for sample in inference.samples if sample.name.endswith("_sum")) == pytest.approx(0.0156)


def test_what_nobody_knows_is_left_out_instead_of_called_zero() -> None:
    bare = replace(
        typical(),
        system=SystemState(),
        store=None,
        queue=None,
        neighbours=(),
        written_bytes=None,
        model=replace(typical().model, created_utc=None),
    )
    found = scraped(busy(bare))
    for name in (
        "temperature_celsius",
        "throttled",
        "store_size_bytes",
        "queue_frames",
        "written_bytes",
        "neighbour_up",
    ):
        assert f"sitecam_{name}" not in found
    assert "sitecam_model_created_timestamp_seconds" not in found
    assert "sitecam_healthy" in found


def test_a_failed_night_and_a_fault_are_zeros_to_alert_on() -> None:
    status = replace(typical(), faults=("No picture.",), night=replace(typical().night, phase="failed"))
    found = scraped(busy(status))
    assert values(found["sitecam_last_night_ok"]) == {(): 0}
    assert values(found["sitecam_healthy"]) == {(): 0}


def test_two_cameras_in_one_process_share_nothing_and_the_clients_own_registry_stays_empty_of_us() -> None:
    first, second = busy(typical()), Metrics(typical)
    assert values(scraped(first)["sitecam_events"]) == {("seen",): 1}
    assert values(scraped(second)["sitecam_events"]) == {}
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("sitecam")]


def test_a_label_with_quotes_and_line_breaks_is_escaped() -> None:
    metrics = Metrics(typical)
    metrics.event_began('a "b"\n\\c')
    assert values(scraped(metrics)["sitecam_events"]) == {('a "b"\n\\c',): 1}


# The token


def bringing(authorization: str | None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "headers": headers})


def test_the_token_is_made_once_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "metrics.token"
    token = metrics_token(path)
    assert len(token) >= 43
    assert metrics_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_empty_token_file_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "metrics.token"
    path.write_text("\n")
    assert len(metrics_token(path)) >= 43


def test_whoever_brings_the_token_gets_in_and_nobody_else() -> None:
    check = TokenCheck("a-token")
    assert check(bringing("Bearer a-token"))
    assert check(bringing("bearer a-token"))
    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer a-toke",
        "Bearer a-tokenn",
        "Basic a-token",
        "a-token",
        "Bearer ä",
    ):
        assert not check(bringing(wrong)), wrong


# The route


def test_an_admin_scrapes_prometheus_text() -> None:
    answer = OneRouterPage(router(busy(typical())), "admin").get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert len(list(text_string_to_metric_families(answer.text))) == len(TABLE)


@pytest.mark.parametrize(("who", "code"), [("stranger", 401), ("viewer", 403)])
def test_nobody_else_does(who: str, code: int) -> None:
    assert OneRouterPage(router(busy(typical())), who).get(PATH).status_code == code
