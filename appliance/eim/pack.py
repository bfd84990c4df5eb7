"""Builds an .eim: one executable file from a manifest, a backbone part and a head part.

It is a zip application behind a shell header. The header looks for a Python that has numpy and LiteRT,
because a ``#!`` line can name only one, and its length is limited. The same parts give the same bytes every
time: fixed dates and order, and nothing compressed, because zlib's versions differ.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import zipfile
from pathlib import Path

import appliance
from appliance import litert
from appliance.eim.model import Facts
from appliance.errors import ManifestError, PartError
from appliance.files import written_atomically
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part

INSTALLED_PYTHON = Path("/opt/sitecam/current/camera/bin/python")
_SOURCES = (
    "__init__.py",
    "errors.py",
    "litert.py",
    "models/head.py",
    "eim/features.py",
    "eim/framing.py",
    "eim/impulse.py",
    "eim/lane.py",
    "eim/leftovers.py",
    "eim/model.py",
    "eim/pipeline.py",
)
_PACKAGE = b'"""Part of a packed impulse."""\n'  # not the room's own __init__: that may import more one day
_MAIN = b"""\
import os
import sys

# The head is one small matrix product: OpenBLAS would start a thread per core for it, with memory for each.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from appliance.eim.impulse import main


def read(name):
    return __loader__.get_data(os.path.join(__loader__.archive, name))


sys.exit(main(sys.argv[1:], read))
"""
_HEADER = """\
#!/bin/sh
# A Sitecam impulse, version {version}: a zip application for the first Python here that can run it.
# -I: no environment variable and no folder changes what it imports. It ends with whoever started it, even if that
# dies before Python runs: hence the parent.
for python in {pythons}; do
  if "$python" -I -c {check} 2>/dev/null; then
    SITECAM_PARENT=$PPID exec "$python" -I "$0" "$@"
  fi
done
echo "$0: no Python here has numpy and ai-edge-litert (or tflite-runtime); install Sitecam here" >&2
exit 1
"""
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # a zip file can't say "no date"


def pack(
    manifest: Manifest,
    backbone: bytes,
    head: bytes,
    out: Path,
    *,
    interpreter: Path | None = None,
    threads: int = 1,
) -> None:
    """Write the ``.eim`` of one model version.

    Args:
        manifest: The version's manifest.
        backbone: Its backbone part, a .tflite with float32 in and out.
        head: Its head part, an .npz.
        out: The file to write or replace, mode 0755.
        interpreter: The Python to try first; None for the one that runs now.
        threads: CPU threads for one inference.

    Raises:
        PartError: A part is not what the manifest says.
        ManifestError: A name that Edge Impulse's clients could not read.
        OSError: The file can't be written; what stood there still stands.
    """
    _check(manifest, backbone, head)
    facts = Facts(
        fleet=manifest.fleet,
        version=manifest.version,
        labels=list(manifest.labels),
        width=manifest.input.width,
        height=manifest.input.height,
        resize_mode=manifest.input.resize_mode,
        threads=threads,
    )
    source = Path(appliance.__file__).parent
    files = {f"appliance/{name}": (source / name).read_bytes() for name in _SOURCES} | {
        "__main__.py": _MAIN,
        "appliance/eim/__init__.py": _PACKAGE,
        "appliance/models/__init__.py": _PACKAGE,
        "backbone.tflite": backbone,
        "head.npz": head,
        "impulse.json": json.dumps(dataclasses.asdict(facts), sort_keys=True, indent=1).encode(),
        "manifest.json": manifest.to_bytes(),
    }
    with written_atomically(out, mode=0o755) as file:
        file.write(_header(manifest.version, interpreter or Path(sys.executable)))
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, _EARLIEST)
                entry.create_system = 3  # Unix, so that the permissions below mean something
                entry.external_attr = 0o100644 << 16
                archive.writestr(entry, files[name], zipfile.ZIP_STORED)


def _check(manifest: Manifest, backbone: bytes, head: bytes) -> None:
    for role, data in (("backbone", backbone), ("head", head)):
        if Part.of(data) != manifest.parts[role]:
            raise PartError(
                f"The {role} of version {manifest.version} is not the one its manifest names",
                means="It was damaged or mixed up, so no .eim is made of it",
                do="Fetch it again",
            )
    numbers = Head.from_bytes(head)
    found = (numbers.feature_count, numbers.hidden_units, numbers.label_count)
    wanted = (manifest.feature_count, manifest.hidden_units, len(manifest.labels))
    if found != wanted:
        raise PartError(
            f"The head of version {manifest.version} has {found} features, hidden units and labels; "
            f"its manifest says {wanted}",
            means="This version can't be used",
        )
    for name in (manifest.fleet, *manifest.labels):
        if set(name) & set("{}"):
            raise ManifestError(
                f"The name {name!r} has a brace",
                means="Edge Impulse's clients find the end of a message by counting braces",
                do="Choose another name for the label or the fleet",
            )


def _header(version: int, interpreter: Path) -> bytes:
    pythons = dict.fromkeys([str(interpreter), str(INSTALLED_PYTHON), "python3"])
    runtimes = " or ".join(f"f({name.split('.')[0]!r})" for name in litert.RUNTIMES)
    check = f"from importlib.util import find_spec as f; raise SystemExit(not (f('numpy') and ({runtimes})))"
    return _HEADER.format(version=version, pythons=shlex.join(pythons), check=shlex.quote(check)).encode()
