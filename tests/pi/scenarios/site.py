"""A site from nothing: a server, two cameras, a night that begins by itself, and a power cut; only the two commands.

Each machine has its own network. What a technician and a labeller do is done as they do it: install.sh, the page.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from appliance.errors import InstallError
from tests.pi.frames import draw_frames
from tests.pi.machine import Machine, Said
from tests.pi.network import Site
from tests.pi.page import CameraPage, Eye
from tests.pi.parts import Bench, install, is_up, journal, one_time_code

_SERVER_UNITS = ("sitecam-superlink", "sitecam-proxy", "sitecam-fleet")
_EXPOSURE = {"sitecam-camera.service": 3.5}  # the others: 2.0
_FRAMES = 60
_ENOUGH = 15  # a night trains from ten on, and some are kept for testing
_NIGHT_S = 2400.0


@dataclass(frozen=True)
class _Camera:
    machine: Machine
    address: str
    code: str


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with ExitStack() as stack:
        site = stack.enter_context(Site())
        wires = {name: site.wire(number) for name, number in (("server", 10), ("gate-1", 11), ("gate-2", 12))}
        machines = {name: stack.enter_context(bench.fresh(name, wire=wire)) for name, wire in wires.items()}
        zone = _zone()
        for machine in machines.values():
            machine.run(f"timedatectl set-timezone {zone}")
        server = machines["server"]
        said = install(server, f"server --host {wires['server'].address}")
        story.quote(said.output)
        if not story.check(said.ok, f"install.sh server ends with {said.status} after {said.took_s:.0f} s"):
            return
        another = server.run("sitecam-server code --approve --json").output
        codes = {"gate-1": _join_code(said.output), "gate-2": str(json.loads(another)["text"])}
        address = wires["server"].address
        with ThreadPoolExecutor() as both:
            begun = {
                name: both.submit(_install_camera, machines[name], f"https://{address}:9443", code)
                for name, code in codes.items()
            }
            try:
                wait(begun.values())
            except BaseException:
                for name in codes:
                    machines[name].cut_power()  # or an interrupt would wait for the installations
                raise
        cameras = []
        for name, job in begun.items():
            if not _tell_camera(bench, machines[name], job.result()):
                return
            cameras.append(_Camera(machines[name], wires[name].address, one_time_code(job.result().output)))
        authority = server.root / "var/lib/sitecam-server/ca.pem"
        for camera in cameras:
            _label(bench, camera, authority)
        _night(bench, server, cameras, zone)
        _exposure(bench, [server, cameras[0].machine])
        _power_cut(bench, cameras[0], authority)
        cameras[0].machine.power_off()
        cameras[0].machine.keep_as(bench.enrolled_layer)


def _zone() -> str:
    """A time zone in which it is about noon, so that no night begins before everything is labelled."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"  # the sign is POSIX's: +5 is five hours behind UTC


def _join_code(output: str) -> str:
    found = re.search(r"install\.sh camera --server https://\S+ --code (\S+)", output)
    if not found:
        raise InstallError("install.sh server does not show the line for cameras")
    return found[1]


def _install_camera(machine: Machine, server: str, code: str) -> Said:
    _other_frames(machine, seed=int(machine.name[-1]))
    return install(machine, f"camera --server {server} --code {code}")


def _tell_camera(bench: Bench, machine: Machine, said: Said) -> bool:
    story = bench.story
    story.quote(said.output)
    if story.check(said.ok, f"{machine.name}: install.sh camera ends with {said.status} after {said.took_s:.0f} s"):
        return story.check(is_up(machine, "sitecam-camera.service"), f"{machine.name}: the camera service runs")
    return False


def _other_frames(machine: Machine, *, seed: int) -> None:
    made = machine.root / "srv/frames-new"
    draw_frames(made, seed=seed, per_label=12)
    machine.run("rm -r /srv/frames && mv /srv/frames-new /srv/frames")


def _label(bench: Bench, camera: _Camera, authority: Path) -> None:
    story, name = bench.story, camera.machine.name
    with CameraPage(camera.address, authority) as page:
        story.check(page.status_of("/healthz") == 200, f"{name}: its page says, over checked TLS, that it watches")
        story.check(page.status_of("/api/status") == 401, f"{name}: nobody sees more without a login")
        who = page.first_login(camera.code)
        story.check(who["role"] == "admin", f"{name}: the one-time code makes an admin of the fleet {who['fleet']!r}")
        status = page.get("/api/status").json()
        story.say(f"{name}: {json.dumps(status)[:400]}")
        page.capture(_FRAMES, 0.7)
        eye = Eye(camera.machine.root / "srv/frames")
        counts: dict[str, int] = {}
        frames = page.get("/api/frames", count=200).json()["frames"]
        for frame in frames:
            label = eye.label(page.picture(frame["id"]))
            page.post(f"/api/frames/{frame['id']}/label", {"label": label})
            counts[label] = counts.get(label, 0) + 1
        story.check(sum(counts.values()) > _ENOUGH, f"{name}: frames were seen and labelled on the page: {counts}")


def _night(bench: Bench, server: Machine, cameras: list[_Camera], zone: str) -> None:
    """Have tonight begin in two minutes, and only wait."""
    story = bench.story
    now = datetime.now(ZoneInfo(zone))
    begins, ends = (f"{now + timedelta(minutes=minutes):%H:%M}" for minutes in (2, 200))
    server.run(f"sed -i 's/^begins = .*/begins = \"{begins}\"/' /etc/sitecam/sitecam-server.toml")
    for camera in cameras:
        change = f's/^begins = .*/begins = "{begins}"/; s/^ends = .*/ends = "{ends}"/'
        camera.machine.run(f"sed -i '{change}' /etc/sitecam/sitecam.toml")
    for machine in (server, *(camera.machine for camera in cameras)):
        said = machine.run("sitecam-install apply", check=False)
        story.check(said.ok, f"{machine.name}: sitecam-install apply: {said.output.strip().splitlines()[-1:]}")
        timers = machine.run("systemctl list-timers 'sitecam-*' --no-pager --no-legend", check=False)
        story.quote(timers.output)
    story.say(f"Nights begin at {begins}, {zone}, by their timers")
    end_s = time.monotonic() + _NIGHT_S
    version = 1
    while time.monotonic() < end_s and version < 2:
        time.sleep(10)
        status = server.run("sitecam-server status --json", check=False)
        found = re.search(r'"version": *([0-9]+)', status.output)
        version = int(found[1]) if found else version
    story.quote(journal(server, "sitecam-round.service", 60))
    story.quote(server.run("sitecam-server status", check=False).output)
    story.check(version >= 2, "the server's timer held a night, and version 2 was published")
    for camera in cameras:
        newer = _wait_for_version(camera.machine, 2, deadline_s=400)
        story.check(newer, f"{camera.machine.name}: version 2 runs", journal(camera.machine, "sitecam-night.service"))
        story.quote(journal(camera.machine, "sitecam-night.service", 12))


def _wait_for_version(machine: Machine, version: int, *, deadline_s: float) -> bool:
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        current = machine.root / "var/lib/sitecam/models/current"
        if current.exists() and int(current.read_text()) >= version:
            return True
        time.sleep(5)
    return False


def _exposure(bench: Bench, machines: list[Machine]) -> None:
    for machine in machines:
        units = machine.run("cd /etc/systemd/system && ls sitecam-*.service").output.split()
        for unit in units:
            told = machine.run(f"systemd-analyze security --no-pager {unit} | tail -1", check=False).output
            found = re.search(r"([0-9]+\.[0-9]+)", told)
            exposure = float(found[1]) if found else 10.0
            most = _EXPOSURE.get(unit, 2.0)
            bench.story.check(exposure <= most, f"{unit}: exposure {exposure}, at most {most}", told)


def _power_cut(bench: Bench, camera: _Camera, authority: Path) -> None:
    story, machine = bench.story, camera.machine
    machine.cut_power()
    story.say(f"{machine.name}: power cut")
    story.say(f"{machine.name} has booted again in {machine.boot():.1f} s")
    with CameraPage(camera.address, authority) as page:
        end_s = time.monotonic() + 120
        healthy = False
        while not healthy and time.monotonic() < end_s:
            time.sleep(2)
            try:
                healthy = page.status_of("/healthz") == 200
            except OSError:
                continue
        story.check(healthy, f"{machine.name}: watches again, by itself", journal(machine, "sitecam-camera.service"))
    version = _wait_for_version(machine, 2, deadline_s=5)
    story.check(version, f"{machine.name}: with version 2")
