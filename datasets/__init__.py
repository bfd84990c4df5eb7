"""Folders of labelled pictures: reading, comparing, and making sample ones."""
