"""Who belongs to the fleet: cameras, let in, revoked or on hold, and the trail of who did what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import StoreError
from server.database import Database, now


@dataclass(frozen=True)
class EnrolledCamera:
    """A camera of the fleet.

    Attributes:
        node_id: Flower's, decimal.
        name: As people call it.
        public_key: One line, OpenSSH's form.
        enrolled_utc: ISO 8601.
        revoked_utc: ISO 8601; None for one that belongs to the fleet.
        revoked_why: In a sentence.
        held_utc: ISO 8601; None for one that may train.
        held_why: In a sentence.
        bad_nights: Nights in a row in which it sent something that could not be used.
    """

    node_id: int
    name: str
    public_key: str = field(default="", compare=False)
    enrolled_utc: str = field(default="", compare=False)
    revoked_utc: str | None = None
    revoked_why: str = ""
    held_utc: str | None = None
    held_why: str = ""
    bad_nights: int = 0


@dataclass(frozen=True)
class TrailEntry:
    """Something that a person or a night did to the fleet.

    Attributes:
        at_utc: ISO 8601.
        who: "page", "command line", "night" or "camera".
        text: In a sentence.
    """

    at_utc: str
    who: str
    text: str


class Roster:
    """The cameras in the registry's file.

    Args:
        path: See :class:`server.database.Database`.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def enrol(self, node_id: int, name: str, public_key: str) -> None:
        """Note a camera.

        Raises:
            StoreError: Name or key is taken.
        """
        with self._database.open() as database:
            database.execute(
                "INSERT INTO cameras (node_id, name, public_key, enrolled_utc) VALUES (?, ?, ?, ?)",
                (str(node_id), name, public_key, now()),
            )

    def cameras(self, *, revoked: bool = False) -> list[EnrolledCamera]:
        """The fleet's cameras by name; with ``revoked``, those too that belong to it no more."""
        with self._database.open() as database:
            rows = database.execute(
                "SELECT node_id, name, public_key, enrolled_utc, revoked_utc, revoked_why, held_utc, held_why,"
                " bad_nights FROM cameras WHERE revoked_utc IS NULL OR ? ORDER BY name, enrolled_utc",
                (revoked,),
            ).fetchall()
        return [EnrolledCamera(int(row[0]), *row[1:]) for row in rows]

    def camera(self, name: str) -> EnrolledCamera:
        """The camera of that name.

        Raises:
            StoreError: The fleet has none.
        """
        cameras = self.cameras()
        for camera in cameras:
            if camera.name == name:
                return camera
        known = ", ".join(camera.name for camera in cameras) or "none"
        raise StoreError(f"The fleet has no camera named {name}", means="Nothing was changed", do=f"It has: {known}")

    def revoke(self, name: str, why: str) -> None:
        """Note that a camera belongs to the fleet no more; its name is free again, its key never is.

        Raises:
            StoreError: There is none of that name.
        """
        node = str(self.camera(name).node_id)
        with self._database.open() as database:
            database.execute(
                "UPDATE cameras SET revoked_utc = ?, revoked_why = ? WHERE node_id = ?", (now(), why, node)
            )

    def hold(self, name: str, why: str) -> None:
        """Keep a camera out of training until a person has looked at it.

        Raises:
            StoreError: There is none of that name.
        """
        node = str(self.camera(name).node_id)
        with self._database.open() as database:
            database.execute("UPDATE cameras SET held_utc = ?, held_why = ? WHERE node_id = ?", (now(), why, node))

    def release(self, name: str) -> None:
        """Let a camera train again; its count of bad nights starts anew.

        Raises:
            StoreError: There is none of that name.
        """
        node = str(self.camera(name).node_id)
        with self._database.open() as database:
            database.execute(
                "UPDATE cameras SET held_utc = NULL, held_why = '', bad_nights = 0 WHERE node_id = ?", (node,)
            )

    def count_night(self, name: str, *, bad: bool) -> int:
        """A night in which a camera's replies came is over; bad nights in a row are counted.

        Returns:
            How many in a row there are now.

        Raises:
            StoreError: There is none of that name.
        """
        camera = self.camera(name)
        nights = camera.bad_nights + 1 if bad else 0
        with self._database.open() as database:
            database.execute("UPDATE cameras SET bad_nights = ? WHERE node_id = ?", (nights, str(camera.node_id)))
        return nights

    # The trail

    def note(self, who: str, text: str) -> None:
        """Add to the trail."""
        with self._database.open() as database:
            database.execute("INSERT INTO trail (at_utc, who, text) VALUES (?, ?, ?)", (now(), who, text))

    def trail(self, *, limit: int = 200) -> list[TrailEntry]:
        """The newest entries, newest first."""
        with self._database.open() as database:
            rows = database.execute("SELECT at_utc, who, text FROM trail ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [TrailEntry(*row) for row in rows]
