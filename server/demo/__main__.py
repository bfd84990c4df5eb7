"""``./install.sh demo``: a server, its cameras, one night, and a table of what it did."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from appliance.errors import ConfigError, SitecamError
from appliance.ledger_reader import last_traffic
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.paths import CameraPaths
from appliance.ports import free_port
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from server.admission import Admission
from server.config import ServerSettings, load
from server.demo.evaluate import Evaluation, evaluate_impulse
from server.demo.fleet_page import FleetPage, open_fleet_page
from server.demo.letting_in import let_cameras_in
from server.demo.options import Options, parse
from server.demo.pages import NAME, page_state, visitor
from server.demo.programs import Programs, wait_for_page
from server.demo.site import DemoCamera, DemoSite, lay_out
from server.demo.table import CameraRow, Table
from server.fleet_init import make_fleet
from server.night import hold_night
from server.paths import ServerPaths
from server.registry import NightRecord, Registry
from server.superlink import SuperLink

EXIT_SHORT = 3  # the demo ran to its end, but not everything happened as it should


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 if everything happened, EXIT_SHORT if not, 1 for a fault, 2 for a wrong option or a taken port.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return Demo(parse(arguments)).run()
    except SitecamError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


class Demo:
    """One run of the demo.

    Args:
        options: What was asked.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}

    def run(self) -> int:
        """Everything, in order; whatever was started is ended, come what may."""
        options = self._options
        _check_ports(options)
        with self._part("pictures", "Pictures" + (" (sample frames)" if options.data is None else "")):
            site = lay_out(options)
        _check_ports(options, site.cameras)
        settings = load(site.server_config)
        with Programs(site.root / "logs") as programs:
            with self._part("server", "The server: keys, certificates, version 1, fleet page"):
                self._make_server(site, settings)
                fleet = open_fleet_page(programs, settings, site.server_config)
                print(f"  {fleet.url}  password {fleet.password}")
                print("  the browser will warn: the certificate is the site's own, and no browser knows its authority")
            with SuperLink(settings, site.server_config) as superlink:
                return self._hold(site, settings, programs, superlink, fleet)

    def _hold(
        self, site: DemoSite, settings: ServerSettings, programs: Programs, superlink: SuperLink, fleet: FleetPage
    ) -> int:
        with self._part("cameras", f"{len(site.cameras)} cameras: let in, import, start"):
            let_cameras_in(Admission(settings, superlink), site.cameras, programs, _say)
            for camera in site.cameras:
                self._start_camera(camera, programs)
            before = {
                camera.name: wait_for_page(programs, camera, _decides, what="a first decision")["model"]["version"]
                for camera in site.cameras
            }
            for camera in site.cameras:
                print(f"  {camera.page}  {camera.name} runs version {before[camera.name]}; {_login(camera)}")
            time.sleep(5)  # the loops' steady pace, to hold the swap against
        with self._part("night", "The night"):
            night = self._night(site, settings, programs, superlink)
        evaluation = None
        published = ServerPaths(settings.state_dir)
        shelf = Shelf(published.models, load_public_key(published.signing_public.read_bytes()))
        if site.evaluate and night.outcome == "published":
            with self._part("evaluate", f"The published .eim on {site.evaluate}"):
                evaluation = self._evaluate(site, shelf.current or 0, site.evaluate)
        self._seconds["total"] = round(time.monotonic() - self._began, 1)
        table = self._table(site, settings, night, before, evaluation)
        return self._close(site, fleet, table)

    # The parts

    def _make_server(self, site: DemoSite, settings: ServerSettings) -> None:
        make_fleet(settings, cache=self._options.work / "cache", say=_say)
        with FrameStore(ServerPaths(settings.state_dir).store) as store:
            report = import_folders(store, site.server_pictures, labels=settings.fleet.labels, by="demo", split="test")
        print(_indented(report.text()))

    def _start_camera(self, camera: DemoCamera, programs: Programs) -> None:
        config = ("--config", str(camera.config))
        report = programs.run("appliance.cli", *config, "import", str(camera.pictures), "--label-from", "folders")
        print(_indented(report))
        programs.start(camera.name, "appliance.cli", *config, "camera")

    def _night(self, site: DemoSite, settings: ServerSettings, programs: Programs, superlink: SuperLink) -> NightRecord:
        for camera in site.cameras:
            programs.start(_night_of(camera), "trainer.night", "--config", str(camera.config), "--window-minutes", "15")
        drill = self._drill(site, programs)
        night = hold_night(settings, superlink, _say, name="demo")
        drill.set()
        _say(night.message)
        for camera in site.cameras:
            if programs.wait(_night_of(camera), timeout_s=30) is None:
                print(f"  {camera.name}'s night goes on after the server's end and is stopped")
        return night

    def _drill(self, site: DemoSite, programs: Programs) -> threading.Event:
        """Kill one camera's night in its first round, where that was asked for."""
        over = threading.Event()
        if self._options.drill:
            camera = site.cameras[self._options.drill - 1]

            def watch() -> None:
                while not over.wait(0.1):
                    state = page_state(camera)
                    if state and state["night"]["phase"] == "training":
                        programs.kill(_night_of(camera))
                        print(f"  drill: {camera.name}'s night process was killed", flush=True)
                        return

            threading.Thread(target=watch, name="drill", daemon=True).start()
        return over

    def _evaluate(self, site: DemoSite, version: int, folder: Path) -> Evaluation:
        """The .eim as a camera assembled it: the very file that its live loop runs."""
        for camera in site.cameras:
            impulse = CameraPaths(camera.state).models / "versions" / str(version) / "impulse.eim"
            if impulse.exists():
                evaluation = evaluate_impulse(impulse, folder)
                for path in evaluation.unreadable:
                    print(f"  can't be read, left out: {path}")
                return evaluation
        raise SitecamError(f"No camera assembled version {version}", means="There is nothing to evaluate")

    def _table(
        self,
        site: DemoSite,
        settings: ServerSettings,
        night: NightRecord,
        before: dict[str, int],
        evaluation: Evaluation | None,
    ) -> Table:
        verdicts = Registry(ServerPaths(settings.state_dir).registry).verdicts(night.id)
        rounds = max(1, len(night.figures.get("rounds", [])))
        rows = []
        for camera in site.cameras:
            state, verdict = page_state(camera), verdicts.get(camera.name)
            traffic = last_traffic(CameraPaths(camera.state).ledger)
            measured = night.figures.get("cameras", {}).get(camera.name, {})
            rows.append(
                CameraRow(
                    name=camera.name,
                    version_before=before[camera.name],
                    version_after=(state and state["model"]["version"]) or before[camera.name],
                    accuracy_before=measured.get("accuracy_before"),
                    accuracy_after=measured.get("accuracy_after"),
                    bytes_up_per_round=traffic[0] // rounds,
                    bytes_down_per_round=traffic[1] // rounds,
                    swap=verdict.swap if verdict else None,
                    verdict=verdict.reason if verdict else "no verdict: its night process did not answer",
                )
            )
        seconds = {part: self._seconds[part] for part in ("night", "total")}
        seconds |= {part: value for part, value in self._seconds.items() if part not in seconds}
        return Table(tuple(rows), dict(night.figures.get("server", {})), evaluation, seconds, night.outcome or "failed")

    def _close(self, site: DemoSite, fleet: FleetPage, table: Table) -> int:
        print("\n" + table.text())
        for row in table.cameras:
            print(f"{row.name}: {row.verdict}")
        if self._options.json:
            self._options.json.write_text(json.dumps(table.as_json(), indent=1) + "\n", encoding="utf-8")
            print(f"written: {self._options.json}")
        wrong = table.shortcomings()
        for sentence in wrong:
            print(f"NOT as it should be: {sentence}")
        if not self._options.once:
            print(f"\nThe pages stay up until Ctrl-C:\n  {fleet.url}  the fleet, password {fleet.password}")
            for camera in site.cameras:
                print(f"  {camera.page}  {camera.name}, {_login(camera)}", flush=True)
            threading.Event().wait()
        return EXIT_SHORT if wrong else 0

    @contextmanager
    def _part(self, name: str, title: str) -> Iterator[None]:
        print(f"{title} ...", flush=True)
        began = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - began, 1)


def _decides(state: dict[str, object]) -> bool:
    return state["decision"] is not None


def _login(camera: DemoCamera) -> str:
    return f"name {NAME}, password {visitor(camera).password}"


def _night_of(camera: DemoCamera) -> str:
    return f"{camera.name}-night"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _check_ports(options: Options, cameras: Sequence[DemoCamera] = ()) -> None:
    """Each is free, and no two are one."""
    wanted = [(options.port, "--port"), (options.fleet_port, "--fleet-port")]
    wanted += [(int(camera.page.rstrip("/").rsplit(":", 1)[1]), "--page-port") for camera in cameras]
    options_by_port: dict[int, str] = {}
    for port, option in wanted:
        other = options_by_port.setdefault(port, option)
        if other != option:
            raise ConfigError(
                f"{other} and {option} both take port {port}",
                means="The cameras' pages take --page-port and the ports that follow",
                do="Choose others",
            )
        free_port(
            "127.0.0.1",
            port,
            means="The demo can't start; perhaps another one is running",
            do=f"Stop the other program, or choose another port with {option}",
        )


if __name__ == "__main__":
    sys.exit(main())
