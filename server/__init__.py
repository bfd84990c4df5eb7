"""The site's server: the fleet's keys, its nights, its models."""

import trainer as trainer  # its first lines switch Flower's telemetry off, before anything here imports Flower
