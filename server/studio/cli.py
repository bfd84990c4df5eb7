"""``sitecam-server studio profile | publish | upload-test``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from appliance.errors import ConfigError, StoreError
from appliance.store.frames import FrameStore
from server.config import ServerSettings
from server.export.versions import version_of
from server.paths import ServerPaths
from server.studio.building import TARGETS, publish_from_studio, upload_model
from server.studio.cloud import Cloud, Estimate, Tested
from server.studio.key import read_key

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_DEVICE = "raspberry-pi-4"


def add_studio(commands: Commands) -> None:
    """Add the commands."""
    parser = commands.add_parser("studio", help="Edge Impulse Studio: profile, build and test the global model there")
    which = parser.add_subparsers(required=True, metavar="COMMAND")
    profile = which.add_parser("profile", help="what the model takes on a device, as Studio estimates it")
    profile.add_argument("--device", default=_DEVICE, help="one that Studio lists (%(default)s); 'list' lists them")
    profile.add_argument("--json", action="store_true")
    profile.set_defaults(run=_profile)
    publish = which.add_parser("publish", help="have Studio build .eim files; they go to the cameras, signed")
    publish.add_argument(
        "--target", action="append", choices=list(TARGETS), help="may be given several times (runner-linux-aarch64)"
    )
    publish.set_defaults(run=_publish)
    test = which.add_parser("upload-test", help="send the server's own test frames, and have the model tested on them")
    test.add_argument("--json", action="store_true")
    test.set_defaults(run=_upload_test)


def _profile(settings: ServerSettings, options: argparse.Namespace) -> int:
    cloud = Cloud(read_key(settings.studio), settings.studio)
    devices = cloud.devices()
    if options.device == "list":
        print("\n".join(devices))
        return 0
    if options.device not in devices:
        raise ConfigError(f"Studio lists no device {options.device!r}", do=f"It lists: {', '.join(devices)}")
    _, shelf, manifest = version_of(settings, None)
    say = _quietly if options.json else _say
    upload_model(cloud, settings, shelf, manifest, say, device=options.device)
    say("Studio profiles it ...")
    found = cloud.profile()
    if options.json:
        print(json.dumps({name: asdict(one) for name, one in found.items()}, indent=1))
    else:
        print(profile_table(options.device, found))
    return 0


def _publish(settings: ServerSettings, options: argparse.Namespace) -> int:
    _, shelf, _ = version_of(settings, None)
    cloud = Cloud(read_key(settings.studio), settings.studio)
    targets = list(dict.fromkeys(options.target or ["runner-linux-aarch64"]))
    manifest = publish_from_studio(cloud, settings, shelf, targets, _say)
    _say(
        f"Version {manifest.version} is version {manifest.parent} with what Studio built. Cameras get it when they are"
        " next brought up to date: sitecam-server round --only-deploy"
    )
    return 0


def _upload_test(settings: ServerSettings, options: argparse.Namespace) -> int:
    cloud = Cloud(read_key(settings.studio), settings.studio)
    _, shelf, manifest = version_of(settings, None)
    say = _quietly if options.json else _say
    with FrameStore(ServerPaths(settings.state_dir).store) as store:
        frames = [frame for frame in store.frames(split="test") if frame.label in manifest.labels]
        if not frames:
            raise StoreError(
                "The server has no test frames of its own",
                means="Nothing was sent",
                do="Bring some in: sitecam-server import FOLDER",
            )
        upload_model(cloud, settings, shelf, manifest, say)
        for number, frame in enumerate(frames, start=1):
            cloud.send_test(f"{frame.id}.jpg", str(frame.label), store.jpeg(frame.id))
            if number % 25 == 0 or number == len(frames):
                say(f"{number} of {len(frames)} test frames sent")
    say("Studio tests the model ...")
    tested = cloud.test()
    print(json.dumps(asdict(tested), indent=1) if options.json else tested_table(tested))
    return 0


def profile_table(device: str, found: dict[str, Estimate]) -> str:
    """Studio's estimates, for a terminal."""
    lines = [device, f"  {'':8}  {'RAM':>10}  {'ROM':>10}  {'per picture':>11}"]
    for name, one in found.items():
        if one.problem:
            lines.append(f"  {name:8}  {one.problem}")
            continue
        cells = (_kilobytes(one.ram_bytes), _kilobytes(one.rom_bytes))
        time = "?" if one.inference_ms is None else f"{one.inference_ms} ms"
        lines.append(f"  {name:8}  {cells[0]:>10}  {cells[1]:>10}  {time:>11}")
    return "\n".join(lines)


def tested_table(tested: Tested) -> str:
    """Studio's model testing, for a terminal."""
    share = tested.right / tested.pictures if tested.pictures else 0.0
    said = sorted({label for row in tested.confusion.values() for label in row})
    width = max(8, *(len(label) for label in (*said, *tested.confusion)))
    lines = [f"{tested.right} of {tested.pictures} right ({share:.1%}); rows: what it is, columns: what was said, in %"]
    lines.append("  ".join([" " * width, *(f"{label:>{width}}" for label in said)]))
    for label, row in tested.confusion.items():
        lines.append("  ".join([f"{label:>{width}}", *(f"{100 * row.get(one, 0.0):>{width}.1f}" for one in said)]))
    return "\n".join(lines)


def _kilobytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1000:,.0f} kB"


def _say(text: str) -> None:
    print(text, flush=True)


def _quietly(_: str) -> None:
    """What is printed is JSON alone."""
