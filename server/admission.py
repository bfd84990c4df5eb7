"""Who comes into the fleet and who goes: codes, requests, approval, refusal, revocation.

The fleet page and the command line call exactly these; each leaves a line in the roster's trail. What cameras say
to the server meanwhile is in ``server/reception.py``.
"""

from __future__ import annotations

import sqlite3

from appliance.errors import ConfigError, StoreError
from appliance.join_code import Invitation, ca_fingerprint, new_code, short
from server.codes import JoinCode, OpenCode
from server.config import ServerSettings
from server.enrol import let_in
from server.enrolment_tables import EnrolmentTables, JoinRequest
from server.paths import ServerPaths
from server.roster import EnrolledCamera, Roster
from server.superlink import SuperLink

MAX_MINUTES = 24 * 60.0
MAX_CAMERAS = 100
MAX_APPROVING_MINUTES = 60.0  # of a code that lets in who brings it: long enough to walk over to the camera


class Admission:
    """Lets cameras in, and puts them out.

    Args:
        settings: The server's.
        superlink: Where keys are registered; need not run for codes and refusals.

    Raises:
        StoreError: The registry can't be used.
    """

    def __init__(self, settings: ServerSettings, superlink: SuperLink) -> None:
        self.settings = settings
        self.paths = ServerPaths(settings.state_dir)
        self.roster = Roster(self.paths.registry)
        self.tables = EnrolmentTables(self.paths.registry)
        self._superlink = superlink

    # Codes

    def new_code(
        self, *, minutes: float = 15.0, cameras: int = 1, approve: bool = False, who: str = "command line"
    ) -> JoinCode:
        """Make a code with which cameras may ask to be let in.

        Args:
            minutes: How long it counts.
            cameras: How many may ask with it.
            approve: Whoever brings it is let in: the code itself is the approval. For one camera, and an hour at most.
            who: For the trail.

        Raises:
            ConfigError: Too long, or for too many.
            CertificateError: The fleet's authority can't be read.
        """
        if not 0 < minutes <= MAX_MINUTES:
            raise ConfigError(
                f"A code can't count for {minutes:g} minutes", do=f"At most {MAX_MINUTES:g}; 15 are usual"
            )
        if not 1 <= cameras <= MAX_CAMERAS:
            raise ConfigError(f"A code can't be for {cameras} cameras", do=f"1 to {MAX_CAMERAS}")
        if approve and (cameras > 1 or minutes > MAX_APPROVING_MINUTES):
            raise ConfigError(
                "A code that lets in who brings it is for one camera, and for an hour at most",
                means="Whoever saw it could come in, and nobody would look",
                do="Make one for each camera, or leave --approve out",
            )
        fingerprint = ca_fingerprint(self.paths.ca_certificate.read_bytes())
        while True:
            code = new_code()
            try:
                approved_by = who if approve else ""
                expires = self.tables.add_code(
                    code.id, code.key(), minutes=minutes, cameras=cameras, approved_by=approved_by
                )
                break
            except StoreError as error:
                if not isinstance(error.__cause__, sqlite3.IntegrityError):
                    raise  # else: one of a million ids was given out before
        approves = ", which lets in who brings it" if approve else ""
        self.roster.note(
            who, f"Code {code.id}-... for {cameras} camera{'s' * (cameras > 1)}, until {expires}{approves}"
        )
        port = self.settings.proxy.port or self.settings.page.port
        return JoinCode.of(Invitation(code, self.settings.superlink.host, port, fingerprint), expires)

    def open_codes(self) -> list[OpenCode]:
        """Codes that still count, newest first; their secrets are not kept."""
        return self.tables.open_codes()

    # Requests

    def requests(self, *, open_only: bool = True) -> list[JoinRequest]:
        """Cameras that ask to be let in, oldest first; with ``open_only=False`` all that ever did."""
        return self.tables.requests(open_only=open_only)

    def approve(self, request_id: int, *, who: str, by_code: bool = False) -> EnrolledCamera:
        """Let a camera in. Safe to repeat: what was cut off in the middle is completed.

        Args:
            request_id: Which asks.
            who: For the trail: who approves, or made the code that does.
            by_code: The code did it.

        Raises:
            StoreError: There is no such request, it was refused, or its name or key is taken.
            NightError: The SuperLink doesn't answer.
        """
        request = self.tables.request(request_id)
        if request.decision not in (None, "approved"):
            raise StoreError(f"{request.name}'s request was {request.decision} already", do="Let the camera ask again")
        camera = let_in(self.settings, self._superlink, self.roster, name=request.name, public_key=request.public_key)
        self.tables.decide(request_id, "approved", node_id=camera.node_id)
        if request.decision is None:
            how = "was let in by a code that approves" if by_code else "was let in"
            self.roster.note(who, f"{camera.name} {how}, key {short(request.fingerprint)}")
        return camera

    def refuse(self, request_id: int, reason: str, *, who: str) -> None:
        """Send a camera away; it says the reason on its screen.

        Raises:
            StoreError: There is no such request, or it was decided otherwise.
        """
        request = self.tables.request(request_id)
        self.tables.decide(request_id, "refused", reason=reason)
        if request.decision is None:
            self.roster.note(who, f"{request.name}'s request from {request.address} was refused: {reason}")

    # Members

    def revoke(self, name: str, reason: str, *, who: str) -> None:
        """Put a camera out: its next message is refused, and its key for good. Safe to repeat.

        The SuperLink comes first: were it the roster, a cut in between would leave a camera that looks revoked and
        is not.

        Raises:
            StoreError: The fleet has no such camera.
            NightError: The SuperLink doesn't answer; nothing was changed.
        """
        camera = self.roster.camera(name)
        self._superlink.prepare()
        if any(node.node_id == camera.node_id and not node.unregistered for node in self._superlink.registered()):
            self._superlink.unregister(camera.node_id)
        self.roster.revoke(name, reason)
        self.roster.note(who, f"{name} was revoked: {reason}")

    def release(self, name: str, *, who: str) -> None:
        """Let a camera that was put on hold train again.

        Raises:
            StoreError: The fleet has no such camera.
        """
        held = self.roster.camera(name).held_why
        self.roster.release(name)
        self.roster.note(who, f"{name} may train again{f' (it was on hold: {held})' if held else ''}")
