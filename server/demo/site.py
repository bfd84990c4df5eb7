"""Lays out the demo's site on disk: settings for a server and its cameras, and which pictures each one gets."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import DatasetError, StoreError
from datasets.folders import labels_in, read_folders
from server.demo.options import Options

_MARK = "made-by-sitecam-demo"
_MIN_FRAMES = 10
_HOLD_S = 1.5  # a picture stays so long: time to read what the page says of it


@dataclass(frozen=True)
class DemoCamera:
    """One of the demo's cameras.

    Attributes:
        name: Shown on its page.
        config: Its sitecam.toml.
        state: Its state folder.
        pictures: The folder with train/ and test/ that it learns from.
        page: Its page's address.
    """

    name: str
    config: Path
    state: Path
    pictures: Path
    page: str


@dataclass(frozen=True)
class DemoSite:
    """The whole site.

    Attributes:
        root: Its folder.
        server_config: The server's sitecam-server.toml.
        server_pictures: The server's own test frames.
        evaluate: Class folders that nobody learns from; None where there are none.
        cameras: In the order of their ports.
        sample: Whether the pictures are the sample frames.
    """

    root: Path
    server_config: Path
    server_pictures: Path
    evaluate: Path | None
    cameras: tuple[DemoCamera, ...]
    sample: bool


def lay_out(options: Options) -> DemoSite:
    """Make the site's folder anew; converted backbones and sample frames are kept from an earlier demo.

    Raises:
        DatasetError: The pictures aren't in the tutorial's layout, or no emoji font was found for sample ones.
        StoreError: The folder holds something that no demo made.
    """
    pictures = options.data or _sample_pictures(options)
    clients = sorted(pictures.glob("dataset_client*"))
    if len(clients) < 2 or not (pictures / "dataset_server" / "test").is_dir():
        raise DatasetError(
            f"{pictures} is not in the tutorial's layout",
            means="The demo needs dataset_client1, dataset_client2 (each with train and test) and dataset_server/test",
            do="Give such a folder with --data, or leave it out to use sample frames",
        )
    labels = list(labels_in(file for client in clients for file in read_folders(client)))
    root = options.work / "demo"
    _clear(root)
    server_config = root / "sitecam-server.toml"
    server_pictures = pictures / "dataset_server"
    server_config.write_text(_server_toml(options, labels, server_pictures, len(clients)), encoding="utf-8")
    cameras = []
    for number, folder in enumerate(clients, start=1):
        name, port = f"gate-{number}", options.page_port + number - 1
        config = root / f"{name}.toml"
        config.write_text(_camera_toml(name, folder / "test", port, options.rate_fps), encoding="utf-8")
        cameras.append(DemoCamera(name, config, root / name, folder, f"https://127.0.0.1:{port}/"))
    evaluate = options.evaluate
    if evaluate is None and options.data is None:
        evaluate = pictures / "evaluate"
    return DemoSite(root, server_config, server_pictures, evaluate, tuple(cameras), options.data is None)


def _sample_pictures(options: Options) -> Path:
    from datasets.emoji import find_font  # real pictures need neither font nor font library
    from datasets.samples import make_site

    root = options.work / "cache" / f"sample-{options.seed}"
    root.parent.mkdir(parents=True, exist_ok=True)
    font = find_font()
    if font is None:
        raise DatasetError(
            "No colour emoji font was found",
            means="The sample frames are drawn from one",
            do="Install fonts-noto-color-emoji, name a NotoColorEmoji.ttf with SITECAM_EMOJI_FONT, or use --data",
        )
    make_site(font, root, seed=options.seed)
    return root


def _clear(root: Path) -> None:
    mark = root / _MARK
    if root.exists():
        if not mark.is_file():
            raise StoreError(
                f"{root} was not made by a demo", means="Nothing was touched", do="Move it away, then try again"
            )
        shutil.rmtree(root)
    root.mkdir(parents=True)
    mark.write_text("This folder is made anew by every ./install.sh demo.\n", encoding="utf-8")


def _server_toml(options: Options, labels: list[str], pictures: Path, cameras: int) -> str:
    int8 = ['precision = "int8"', f"representative = {json.dumps(str(pictures))}"]
    lines = [
        'state_dir = "server"',
        "",
        "[fleet]",
        'name = "demo site"',
        f"labels = {json.dumps(labels)}",
        *([f"backbone = {json.dumps(str(options.backbone))}"] if options.backbone else []),
        *(int8 if options.precision == "int8" else []),
        "",
        "[superlink]",
        f"port = {options.port}",
        "",
        "[page]",
        f"port = {options.fleet_port}",
        "",
        "[night]",
        f"quorum = {cameras}",
        "min_replies = 1",  # the drill: one of two cameras is killed, and the night goes on
        "quorum_deadline_s = 90",
        "round_deadline_s = 60",
        "verdict_deadline_s = 120",
    ]
    return "\n".join(lines) + "\n"


def _camera_toml(name: str, pictures: Path, port: int, rate_fps: float) -> str:
    lines = [
        f'state_dir = "{name}"',
        "",
        "[camera]",
        f'name = "{name}"',
        'source = "folder"',
        f"path = {json.dumps(str(pictures))}",
        f"rate_fps = {rate_fps}",
        f"hold_frames = {max(1, round(rate_fps * _HOLD_S))}",
        "shuffle = true",
        "",
        "[page]",
        f"port = {port}",
        "",
        "[night]",
        f"min_frames = {_MIN_FRAMES}",
    ]
    return "\n".join(lines) + "\n"
