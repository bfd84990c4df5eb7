"""Whole installs on machines made for it: Debian with its own systemd, and libcamera's virtual camera as the sensor.

Run by hand before a release (README, "Before a release"); pytest does not collect it. What stands in ``standins``
is for tests only, and is never installed on a camera.
"""
