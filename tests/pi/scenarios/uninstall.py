"""uninstall takes away what install.sh brought, and nothing else; settings and data stay unless --purge."""

from __future__ import annotations

from pathlib import Path

from tests.pi.filesystem import snapshot
from tests.pi.parts import INSTALL_S, Bench, install

_OURS = ("opt/sitecam", "usr/local/bin/sitecam", "usr/local/sbin/sitecam-install", "etc/systemd/system/sitecam-")
_KEPT = ("etc/sitecam/sitecam.toml", "var/lib/sitecam/keys")


def run(bench: Bench) -> None:
    """Run it."""
    story = bench.story
    with bench.camera("uninstall") as machine:
        (machine.root / "var/lib/sitecam/somebody-needs-this").write_text("data\n")
        story.check(bool(_left(machine.root, _OURS)), "it is installed")
        said = machine.run("sitecam-install uninstall", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        story.check(said.ok, f"uninstall ends with {said.status}")
        left = _left(machine.root, _OURS)
        story.check(not left, "no program, command or unit is left", "\n".join(left[:40]))
        story.check(all((machine.root / path).exists() for path in _KEPT), "settings and data stay")
        failed = machine.run("systemctl --failed --no-legend; systemctl list-units --all --no-legend 'sitecam*'").output
        story.check(not failed.strip(), "systemd knows nothing of it any more", failed)

        said = install(machine, "camera --yes")
        story.check(said.ok, f"installed again after {said.took_s:.0f} s", said.output)
        story.check((machine.root / "var/lib/sitecam/somebody-needs-this").exists(), "on the data that stayed")
        said = machine.run("sitecam-install uninstall --purge", check=False, deadline_s=INSTALL_S)
        story.quote(said.output)
        story.check(said.ok, f"uninstall --purge ends with {said.status}")
        left = _left(machine.root, (*_OURS, "etc/sitecam", "var/lib/sitecam"))
        story.check(not left, "nothing is left", "\n".join(left[:40]))
        users = machine.run("getent passwd sitecam; getent group sitecam", check=False).output
        story.say(f"accounts afterwards: {users.split() or 'none'}")


def _left(root: Path, beginnings: tuple[str, ...]) -> list[str]:
    found = snapshot(root, without=("dev", "proc", "sys", "run", "tmp", "usr/lib", "root"))
    return [path for path in found if path.startswith(beginnings)]
