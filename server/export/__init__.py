"""The global model as files that other tools take; see one_file.py."""
