"""Benchmarks: `python3 manage.py bench [name ...]`. See harness.py for how they are measured."""
