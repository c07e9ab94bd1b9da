"""`manage.py test`: pytest with this project's settings; arguments pass through."""

from __future__ import annotations

import os

import pytest

# One file is one process's: its fixtures start daemons and products, and some files keep an order.
# Those that start products take longest, so tests/conftest.py puts them first: nothing waits for them at the end.
ON_ALL_CORES = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")


def main(arguments: list[str]) -> int:
    # pytest-django would load the settings at once; tests/conftest.py does, when its servers are up.
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    return int(pytest.main([*(ON_ALL_CORES if is_large(arguments) else ()), *arguments]))


def is_large(arguments: list[str]) -> bool:
    """Whether so much is asked for that a process for each core is worth its start: folders, or everything."""
    if any(argument.startswith(("-n", "--numprocesses", "--collect-only", "--co", "--pdb")) for argument in arguments):
        return False
    return not any(argument.partition("::")[0].endswith(".py") for argument in arguments)
