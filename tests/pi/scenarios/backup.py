"""A camera's backup brings another Pi to where the first one stood; a changed archive is refused."""

from __future__ import annotations

import shutil

from tests.pi.parts import INSTALL_S, Bench, install, is_up, journal

_FILE = "/root/camera.backup"
_KEYS = "cd /var/lib/sitecam/keys && sha256sum page.key metrics.token"


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    kept = bench.work / "camera.backup"
    with bench.camera("backup") as machine:
        machine.run("sed -i 's/^name = .*/name = \"the gate\"/' /etc/sitecam/sitecam.toml")
        machine.run("systemctl restart sitecam-camera.service")
        said = machine.run(f"sitecam-install backup {_FILE}", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        if not story.check(said.ok, f"backup ends with {said.status} after {said.took_s:.0f} s"):
            return
        story.say(machine.run(f"ls -l {_FILE}").output.strip())
        story.check(is_up(machine, "sitecam-camera.service"), "the camera watches on")
        keys = machine.run(_KEYS).output
        shutil.copy(machine.root / _FILE.lstrip("/"), kept)
    with bench.fresh("another") as machine:
        said = install(machine, "camera --yes")
        story.check(said.ok, f"a new Pi: installed after {said.took_s:.0f} s", said.output)
        changed = bytearray(kept.read_bytes())
        changed[len(changed) // 2] ^= 1
        (machine.root / "root/changed.backup").write_bytes(changed)
        said = machine.run("sitecam-install restore /root/changed.backup", check=False, deadline_s=INSTALL_S)
        story.check(said.status == 65, f"a backup with one changed bit: {said.status} (65)", said.output)
        machine.put(kept, _FILE)
        said = machine.run(f"sitecam-install restore {_FILE}", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        story.check(said.ok, f"restore ends with {said.status} after {said.took_s:.0f} s")
        settings = (machine.root / "etc/sitecam/sitecam.toml").read_text()
        story.check('name = "the gate"' in settings, "its settings are the first one's")
        now = machine.run(_KEYS).output
        story.check(now == keys, "its keys are the first one's", f"{keys}\n{now}")
        up = is_up(machine, "sitecam-camera.service")
        story.check(up, "the camera service runs", journal(machine, "sitecam-camera.service"))
    kept.unlink()
