"""Says which engine isolates sandboxes here, what it promises, and what each probe found."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sandboxes import engine


class Command(BaseCommand):
    help = "Which engine isolates sandboxes here, what it promises, and what each probe found. Exit code 1 without one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the same, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        said = engine.describe()
        self.stdout.write(json.dumps(said, indent=2, default=str) if options["json"] else _in_words(said))
        if not said["engine"]:
            sys.exit(1)


def _in_words(said: dict[str, Any]) -> str:
    lines = [f"engine    {said['engine'] or 'none: no code can run here'}"]
    lines += [f"  because {reason}" for reason in said["reasons"] if not said["engine"]]
    lines += [f"promise   {promise}" for promise in said["promises"]]
    lines += [f"limit     {name}: {way}" for name, way in said["limits"].items()]
    for probe in said["probes"]:
        lines.append(f"probe     {probe['engine']}: {'passed' if probe['ok'] else 'failed'}")
        lines += [f"            {reason}" for reason in probe["reasons"]]
    for name, counts in said["pools"].items():
        lines.append(f"pool      {name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n".join(lines)
