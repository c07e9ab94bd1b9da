"""Measure: `manage.py bench [name ...]` runs tests/bench and prints ratios to named baselines."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        # Its own process: the benchmarks start their own servers before the settings are read.
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench", *argv[2:]])

    def handle(self, *args: Any, **options: Any) -> None:
        self.run_from_argv(["manage.py", "bench", *args])
