"""Puts Sitecam on a machine, keeps it up to date there, and takes it off again.

Run as root by the system's own Python, before anything is installed: nothing here imports more than the standard
library and the few modules of ours that do so too.
"""
