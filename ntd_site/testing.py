"""`manage.py test`: pytest with this project's settings; arguments pass through."""

from __future__ import annotations

import os

import pytest


def main(arguments: list[str]) -> int:
    # pytest-django would load the settings at once; tests/conftest.py does, when its servers are up.
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    return int(pytest.main(arguments))
