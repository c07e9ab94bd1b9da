"""Says which engine isolates sandboxes here, and which elsewhere, what each promises, and what each probe found."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from sandboxes import engine
from sandboxes.runtimes import LABELS


class Command(BaseCommand):
    help = "Which engines isolate sandboxes, what they promise, what each probe found. Exit code 1 without one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the same, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        found = {name: engine.describe(name) for name in engine.names()}
        if options["json"]:
            text = json.dumps(engine.describe() | {"runtimes": found}, indent=2, default=str)
        else:
            text = "\n\n".join(_in_words(name, said) for name, said in found.items())
        self.stdout.write(text)
        if not any(said["engine"] for said in found.values()):
            sys.exit(1)


def _in_words(name: str, said: dict[str, Any]) -> str:
    lines = [f"runtime   {name}: {LABELS[name]}"]
    lines += [f"engine    {said['engine'] or 'none: no code can run here'}"]
    lines += [f"  because {reason}" for reason in said["reasons"] if not said["engine"]]
    lines += [f"promise   {promise}" for promise in said["promises"]]
    lines += [f"limit     {name}: {way}" for name, way in said["limits"].items()]
    lines += [f"set to    {fact}: {value}" for fact, value in said.get("facts", {}).items()]
    for probe in said["probes"]:
        lines.append(f"probe     {probe['engine']}: {'passed' if probe['ok'] else 'failed'}")
        lines += [f"            {reason}" for reason in probe["reasons"]]
    for name, counts in said["pools"].items():
        lines.append(f"pool      {name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n".join(lines)
