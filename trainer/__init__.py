"""The night shift on the Pi: features, head training and the Flower client.

Flower reads whether it may phone home when it is imported, and its task code runs in our own processes too, so the
answer has to stand before any module of ours imports it.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
