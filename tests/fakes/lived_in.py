"""A state folder in which a camera has lived: everything that forgetting must find."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from appliance.files import write_atomically
from appliance.fleet import make_node_key
from appliance.metrics_token import metrics_token
from appliance.paths import CameraPaths
from appliance.status_file import StatusFile
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore, NewFrame
from tests.fakes.fleet import TinyFleet
from tests.fakes.pictures import encoded, scene
from tests.fakes.statuses import typical

FRAMES, LABELLED = 6, 4
SECRET = b"the very secret that must not be found"


def lived_in(root: Path, backbone: bytes) -> CameraPaths:
    """Make one below ``root``; its status lies in ``root / "run"``, as in memory."""
    paths = CameraPaths(root / "state")
    paths.root.mkdir(parents=True)
    make_node_key(paths)
    metrics_token(paths.metrics_token)
    paths.page_key.write_bytes(SECRET)
    TinyFleet(root, backbone).shelf(paths.models, 1, 2)
    with FrameStore(paths.store) as store, FeatureCache(paths.store):
        store.add_all(
            [
                NewFrame(
                    encoded(scene(number)),
                    datetime(2026, 11, 22, 8, number, tzinfo=UTC),
                    "live",
                    label,
                    label and "Ada",
                )
                for number, label in enumerate(["head", "hardhat"] * 2 + [None] * 2)
            ]
        )
    with closing(sqlite3.connect(paths.accounts)) as accounts:
        accounts.execute("CREATE TABLE accounts (name TEXT, hash TEXT)")
        accounts.execute("INSERT INTO accounts VALUES ('Ada', ?)", (SECRET.decode(),))
        accounts.commit()
    for name, data in {
        "fleet/fleet.json": b'{"name": "Harbour site"}',
        "fleet/ca.pem": b"an authority",
        "events/events.sqlite": b"events",
        "events/snapshots/0a.jpg": b"a snapshot",
        "flower/executor.secret": SECRET,
        "flower/supernode.log": b"a log",
        "joining.json": SECRET,
        "ledger.jsonl": b'{"kind": "x"}\n',
        "night.json": b"{}",
        "class-means-0123456789abcdef.npz": b"sums of features",
        "something a later release left": b"?",
    }.items():
        path = paths.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    (paths.root / "an/empty/folder").mkdir(parents=True)
    (root / "outside").mkdir()
    (root / "outside" / "not ours").write_bytes(b"behind a link")
    (paths.root / "link").symlink_to(root / "outside")
    (root / "run").mkdir()
    StatusFile(paths.root, {"RUNTIME_DIRECTORY": str(root / "run")}).write(typical())
    return paths
