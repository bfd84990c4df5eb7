"""Scenarios: each a module with ``run(bench)`` that tells what held."""
