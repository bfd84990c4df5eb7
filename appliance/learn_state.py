"""How learning the empty site goes, as the page shows it; whoever asked for it, page or command."""

from __future__ import annotations

from appliance.burst import CaptureState
from appliance.learn_empty import read_report, read_request
from appliance.paths import CameraPaths


def learning_state(paths: CameraPaths) -> CaptureState:
    """Of the request under way, or the last one."""
    request, report = read_request(paths), read_report(paths)
    if request is not None:
        if report is None or report.asked_utc != request.asked_utc:
            return CaptureState(True, 0, request.count, "Waiting for the camera.")
        return CaptureState(not report.finished, report.taken, request.count, report.sentence)
    if report is None:
        return CaptureState(False, 0, 0, "")
    if not report.finished:
        return CaptureState(False, report.taken, report.taken, "The camera stopped on the way: nothing was stored.")
    return CaptureState(False, report.taken, report.taken, report.sentence)
