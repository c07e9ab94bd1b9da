"""Say what runs: each part with its process, age, restarts and memory."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from ntd_site import running


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="machine-readable")

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        status = running.read(settings.PLACE)
        if status is None:
            self.stdout.write("ntd is not up. Start it: python3 manage.py up")
            raise SystemExit(3)
        for part in status["parts"]:
            part["memory_bytes"] = running.memory_bytes(part["pid"]) if part["pid"] else 0
        if json:
            self.stdout.write(_dumps(status))
            return
        self.stdout.write(f"{status['url']}  {'ready' if status['ready'] else 'starting'}  supervisor {status['pid']}")
        for part in status["parts"]:
            age = f"{time.time() - part['started_at']:.0f} s" if part["pid"] else "-"
            memory = f"{part['memory_bytes'] / 1e6:.0f} MB"
            state = "running" if part["pid"] else "down"
            shown = f"{part['name']:<12} {state:<8} {part['pid'] or '-':>8} {age:>9}"
            self.stdout.write(f"{shown} {part['restarts']:>3} restarts {memory:>8}")
        total = sum(part["memory_bytes"] for part in status["parts"]) + running.memory_bytes_own(status["pid"])
        self.stdout.write(f"{'together':<12} {total / 1e6:.0f} MB")


_dumps = json.dumps
