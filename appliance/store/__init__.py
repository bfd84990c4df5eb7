"""Frames and their labels: SQLite and JPEG files."""
