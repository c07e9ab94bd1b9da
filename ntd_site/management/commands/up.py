"""Start the whole product: embedded servers, web, workers, schedule, sandboxes."""

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        # The supervisor imports no Django: it replaces this process and parses the arguments itself.
        os.execv(sys.executable, [sys.executable, "-m", "ntd_site.supervisor", *argv[2:]])

    def handle(self, *args: Any, **options: Any) -> None:
        self.run_from_argv(["manage.py", "up", *args])
