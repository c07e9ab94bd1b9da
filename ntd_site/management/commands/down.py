"""Stop the product that `up` started from this home."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand

from ntd_site import running

WAIT_SECONDS = 40


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        status = running.read(settings.PLACE)
        if status is None:
            self.stdout.write("ntd is not up.")
            return
        os.kill(status["pid"], signal.SIGTERM)
        deadline = time.monotonic() + WAIT_SECONDS
        while psutil.pid_exists(status["pid"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        if psutil.pid_exists(status["pid"]):
            self.stderr.write(f"The supervisor does not stop. Kill it with: kill -9 {status['pid']}")
            raise SystemExit(1)
        self.stdout.write("ntd is down.")
