"""The official Node command line runs our .eim unchanged: HTTP, camera, page, websocket, thresholds, shared memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from appliance.eim.runner import start_impulse
from appliance.frame import Pixels
from tests.browser.playing import chromium
from tests.fakes.eim_traces import Traces
from tests.fakes.parts import LABELS
from tests.fakes.waiting import wait_until
from tests.official.node import NodeRunner, fake_camera, http_server, running

from playwright.sync_api import expect  # isort: skip  # skipped where it isn't installed

SIDE = 32
RED: Pixels = np.full((SIDE, SIDE, 3), (200, 40, 60), np.uint8)
PICTURES = [RED, np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), np.uint8)]


@pytest.fixture(scope="module")
def ours(tiny_eim: Path) -> list[dict[str, float]]:
    """What our own runner gets for the pictures."""
    with start_impulse(tiny_eim, start_deadline_s=60, reply_deadline_s=60) as impulse:
        return [dict(impulse.classify(picture).scores) for picture in PICTURES]


@pytest.fixture(scope="module")
def red_jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than the model's input: of one colour, so that every resizer gives the same."""
    path = tmp_path_factory.mktemp("camera") / "red.jpg"
    Image.fromarray(np.broadcast_to(RED[0, 0], (640, 640, 3)).copy()).save(path, quality=98)
    return path


@pytest.fixture(scope="module")
def server(node_runner: Path, tiny_eim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeRunner]:
    with running(node_runner, tiny_eim, tmp_path_factory.mktemp("node"), http_server) as runner:
        yield runner


def png(picture: Pixels) -> bytes:
    held = io.BytesIO()
    Image.fromarray(picture).save(held, "PNG")
    return held.getvalue()


def test_its_http_server_says_what_the_eim_is(server: NodeRunner) -> None:
    info = server.get("/api/info").json()
    assert info["project"]["deploy_version"] == 1
    parameters = info["modelParameters"]
    assert tuple(parameters["labels"]) == LABELS
    assert (parameters["image_input_width"], parameters["image_resize_mode"]) == (SIDE, "fit-shortest")
    assert [one["min_score"] for one in parameters["thresholds"]]


def test_its_http_server_classifies_a_picture_exactly_as_our_runner_does(
    server: NodeRunner, ours: list[dict[str, float]]
) -> None:
    server.get("/api/info")
    for picture, expected in zip(PICTURES, ours, strict=True):
        sent = {"file": ("worker.png", png(picture), "image/png")}
        answer = httpx.post(f"{server.url}/api/image", files=sent, timeout=20).json()
        assert answer["result"]["classification"] == pytest.approx(expected, abs=1e-6)
        assert {"dsp", "classification", "anomaly"} <= answer["timing"].keys()


@pytest.mark.parametrize("behaviour", ["auto", "always", "never"])
def test_its_camera_loop_tells_a_websocket_our_labels_with_and_without_shared_memory(
    behaviour: str, node_runner: Path, tiny_eim: Path, red_jpeg: Path, tmp_path: Path, ours: list[dict[str, float]]
) -> None:
    before = Traces.now()
    how = fake_camera(red_jpeg, "--shm-behavior", behaviour)
    with running(node_runner, tiny_eim, tmp_path, how) as runner:
        runner.get("/")
        told = list(islice(runner.messages(), 8))
        assert ("Initialized shared memory" in runner.log) == (behaviour != "never")
    assert told[0]["type"] == "hello"
    assert told[0]["modelParameters"]["labels"] == list(LABELS)
    classified = [message for message in told if message["type"] == "classification"]
    assert len(classified) > 3
    for message in classified:
        assert message["result"]["classification"] == pytest.approx(ours[0], abs=0.02)  # JPEG is a little off
    wait_until(lambda: not Traces.now().beyond(before))


def test_its_page_shows_our_labels_and_changes_the_threshold(
    node_runner: Path, tiny_eim: Path, red_jpeg: Path, tmp_path: Path, ours: list[dict[str, float]]
) -> None:
    best = max(ours[0], key=lambda label: ours[0][label])
    with running(node_runner, tiny_eim, tmp_path, fake_camera(red_jpeg)) as runner, chromium() as browser:
        runner.get("/")
        page = browser.new_page()
        page.goto(runner.url)
        expect(page.locator("#header-row")).to_contain_text("test fleet / test fleet")
        for label in LABELS:
            expect(page.locator("#results-table thead")).to_contain_text(label)
        expect(page.locator("#results-table tbody tr").first).to_contain_text(f"{ours[0][best]:.1f}")
        threshold = page.locator("#thresholds-body input")
        threshold.evaluate("(each) => { each.value = '0.99'; each.dispatchEvent(new Event('input')); }")
        wait_until(lambda: "key min_score to: 0.99... OK" in runner.log)
        wait_until(lambda: "{ head: 0, hardhat: 0, nobody: 0 }" in runner.log)  # its own filter, by our answer


def test_a_broken_eim_is_an_error_that_it_shows(node_runner: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.eim"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with running(node_runner, broken, tmp_path, http_server) as runner:
        assert runner.process.wait(60) != 0
        assert runner.log
