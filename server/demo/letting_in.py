"""The demo lets its cameras in as a technician does: a code, ``sitecam enrol`` on each camera, a look, approval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from appliance.errors import CertificateError
from appliance.join_code import address, short
from server.admission import Admission
from server.demo.programs import Programs
from server.demo.site import DemoCamera
from server.enrolment_tables import JoinRequest

_WHO = "demo"  # in the fleet's trail
_DEADLINE_S = 120.0
_LOOK_S = 0.2


def let_cameras_in(
    admission: Admission, cameras: Sequence[DemoCamera], programs: Programs, say: Callable[[str], None]
) -> None:
    """Have all cameras ask with one code, approve each one whose key is the one on its screen, and wait for their end.

    Args:
        admission: The server's; its SuperLink and its fleet page run.
        cameras: Not enrolled yet.
        programs: Where they run.
        say: Told what happens, in sentences.

    Raises:
        CertificateError: A camera could not join, and why.
        NightError: The SuperLink doesn't answer.
    """
    code = admission.new_code(cameras=len(cameras), who=_WHO)
    command = ("enrol", code.text, "--server", address(code.host, code.port))
    say(f"on each camera: sitecam {' '.join(command)}")
    for camera in cameras:
        programs.start(_enrolment_of(camera.name), "appliance.cli", "--config", str(camera.config), *command)
    waiting = {camera.name for camera in cameras}
    ends = time.monotonic() + _DEADLINE_S
    while waiting:
        for request in admission.requests():
            if request.name in waiting:
                _approve(admission, request, programs, say)
        waiting = {name for name in waiting if not _is_in(name, programs)}
        if waiting and time.monotonic() > ends:
            name = min(waiting)
            raise CertificateError(
                f"{name} did not join within {_DEADLINE_S:.0f} s: {programs.last_words(_enrolment_of(name))}",
                means="The demo can't go on without it",
            )
        time.sleep(_LOOK_S)


def _approve(admission: Admission, request: JoinRequest, programs: Programs, say: Callable[[str], None]) -> None:
    key = short(request.fingerprint)
    if key not in programs.printed(_enrolment_of(request.name)):
        reason = f"it showed the key {key} here, and another on its own screen"
        admission.refuse(request.id, reason, who=_WHO)
        raise CertificateError(f"{request.name} was not let in: {reason}", means="Somebody may be in between")
    admission.approve(request.id, who=_WHO)
    say(f"{request.name} asks to be let in, key {key} as on its screen: approved")


def _is_in(name: str, programs: Programs) -> bool:
    status = programs.status(_enrolment_of(name))
    if status:
        raise CertificateError(
            f"{name} could not join: {programs.last_words(_enrolment_of(name))}",
            means="The demo can't go on without it",
        )
    return status == 0


def _enrolment_of(name: str) -> str:
    return f"{name}-enrol"
