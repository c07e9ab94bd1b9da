"""`manage.py test`: pytest with this project's settings; arguments pass through."""

from __future__ import annotations

import pytest


def main(arguments: list[str]) -> int:
    return int(pytest.main(arguments))
