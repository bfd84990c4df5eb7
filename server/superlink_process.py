"""The SuperLink's process: Flower's own, which keeps what messages hold in memory, and takes no request twice.

A SuperLink with a database writes every reply's arrays into it, and SQLite keeps deleted pages until they are used
again: single cameras' updates would stay on the server's disk. Here nodes, keys, runs and messages without their
contents are on disk; contents are in memory until they were collected. A SuperLink that restarts has lost the
contents of what was under way; the night notices, and asks that round's question again (server/night.py).

This leans on one name inside flwr 1.41.0, which is pinned; tests/night/test_server_disk.py proves that it works.
"""

from __future__ import annotations

from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink import config_loader
from flwr.superlink.cli.flower_superlink import flower_superlink

from server.replays import refuse_replays


def _in_memory(_: str) -> ObjectStoreFactory:
    return ObjectStoreFactory()


def main() -> None:
    """Run it with flower-superlink's own options."""
    vars(config_loader)["ObjectStoreFactory"] = _in_memory
    refuse_replays()
    flower_superlink()


if __name__ == "__main__":
    main()
