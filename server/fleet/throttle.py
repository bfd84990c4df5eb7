"""Slows down guessing: the fleet page does it as cameras' pages do."""

from __future__ import annotations

from appliance.web.throttle import Throttle

__all__ = ["Throttle"]
