"""Check every invariant of the ledger; exits with 1 and names what fails."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from billing import verify


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the checks as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        checks = verify.checks()
        ok = all(check.ok for check in checks)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": ok, "checks": [vars(check) for check in checks]}))
        else:
            for check in checks:
                self.stdout.write(f"{'ok    ' if check.ok else 'BROKEN'} {check.name} {check.detail}".rstrip())
        if not ok:
            sys.exit(1)
