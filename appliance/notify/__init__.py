"""Tells neighbours of events: an MQTT broker, a webhook. Nothing of theirs can hold the camera up."""
