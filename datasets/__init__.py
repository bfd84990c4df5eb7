"""Labelled pictures: reading, writing, comparing and checking them, and making sample ones."""
