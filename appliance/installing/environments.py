"""A release's Python environments, packages with hashes in each, and the commands that run in them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from appliance.installing.installation import Installation
from appliance.installing.layout import Role, user
from appliance.installing.releases import Release, complete

_PIP = ("-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir")
# Wheels only, but for the SDK, which has none that fits; what builds it is pinned in build.txt and installed before.
_PINNED = ("--require-hashes", "--no-deps", "--ignore-installed", "--no-build-isolation", "--only-binary=:all:")
_SDIST = "--no-binary=edge-impulse-linux"


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        name: Its folder, and its lock file.
        what: For people.
        sees_system: Whether it sees Debian's Python packages: picamera2, numpy, OpenCV, PyAudio.
        imports: Modules of ours that must import in it.
        commands: Command -> module, run in it.
    """

    name: str
    what: str
    sees_system: bool
    imports: tuple[str, ...]
    commands: dict[str, str]


ENVIRONMENTS: dict[Role, tuple[Environment, ...]] = {
    "camera": (
        Environment("camera", "the camera", True, ("appliance.cli", "appliance.process"), {"sitecam": "appliance.cli"}),
        Environment(
            "night", "the night", False, ("trainer.night", "trainer.client"), {"sitecam-night": "trainer.night"}
        ),
    ),
    "server": (
        Environment(
            "server",
            "the server (TensorFlow: this takes minutes)",
            False,
            ("server.cli", "server.fleet.cli", "server.rounds"),
            {"sitecam-server": "server.cli", "sitecam-fleet": "server.fleet.cli"},
        ),
    ),
}

# A person starts it with sudo; it becomes the role's user before anything is read, so that no file of the service's
# ever belongs to root, and no picture or reply is parsed as root.
_WRAPPER = """\
#!/bin/sh
# Written by install.sh: runs {module} of this release as {user}.
case $(id -un) in
root)
    HOME={home} exec setpriv --reuid={user} --regid={user} --init-groups -- {python} -P -m {module} "$@"
    ;;
{user})
    exec {python} -P -m {module} "$@"
    ;;
*)
    echo "{command}: it works on the service's files. Run it with sudo." >&2
    exit 77
    ;;
esac
"""


def make_environments(installation: Installation, release: Release, role: Role) -> bool:
    """Have a role's environments in a release, whole; a half one is made afresh.

    Returns:
        Whether anything was made.

    Raises:
        InstallError: A step failed.
    """
    made = [_make(installation, release, role, environment) for environment in ENVIRONMENTS[role]]
    return any(made)


def is_ready(release: Release, role: Role) -> bool:
    """Whether a release has all that a role needs."""
    parts = ["code", *(_part(environment) for environment in ENVIRONMENTS[role])]
    return all(release.stamp(part).exists() for part in parts)


def _make(installation: Installation, release: Release, role: Role, environment: Environment) -> bool:
    runner, places = installation.runner, installation.places
    if release.stamp(_part(environment)).exists():
        return False
    folder, temporary = release.path / environment.name, release.path / "tmp"
    for old in release.path.glob(f".{environment.name}-*-complete") if release.path.exists() else []:
        old.unlink()  # for another Python: the system was upgraded
    for half in (folder, temporary):
        if half.exists():
            places.remove_tree(half, inside=release.path)
    system = ["--system-site-packages"] if environment.sees_system else []
    runner.run(["/usr/bin/python3", "-m", "venv", *system, str(folder)], say=f"Making a place for {environment.what}")
    places.folder(temporary)  # /tmp may be a small one in memory
    python = str(folder / "bin/python")
    locks = release.code / "locks"
    variables = {"TMPDIR": str(temporary), "PYTHONNOUSERSITE": "1"}
    if environment.sees_system:
        runner.run(
            [python, *_PIP, *_PINNED, "-r", str(locks / "build.txt")],
            environment=variables,
        )
    runner.run(
        [python, *_PIP, *_PINNED, _SDIST, "-r", str(locks / f"{environment.name}.txt")],
        say=f"Installing packages of {environment.what}",
        environment=variables,
    )
    packages = folder / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    places.file(packages / "sitecam.pth", f"{release.code}\n")
    # The services can't write here, so what Python compiles must be there before.
    runner.run([python, "-m", "compileall", "-q", str(release.code)], check=False)
    check = f"import {', '.join(environment.imports)}"
    runner.run(
        [python, "-P", "-B", "-c", check], say=f"Trying {environment.what}", environment={"TMPDIR": str(temporary)}
    )
    _write_commands(installation, release, role, environment)
    if temporary.exists():
        places.remove_tree(temporary, inside=release.path)
    complete(installation, release, _part(environment))
    return True


def _write_commands(installation: Installation, release: Release, role: Role, environment: Environment) -> None:
    installation.places.folder(release.commands)
    for command, module in environment.commands.items():
        text = _WRAPPER.format(
            command=command,
            module=module,
            user=user(role),
            home=shlex.quote(str(installation.layout.state(role))),
            python=shlex.quote(str(release.path / environment.name / "bin/python")),
        )
        installation.places.file(release.commands / command, text, mode=0o755)


def _part(environment: Environment) -> str:
    return f"{environment.name}-{sys.version_info[0]}.{sys.version_info[1]}"
