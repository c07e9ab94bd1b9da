"""Says which engine isolates sandboxes, what it promises, and what each probe found: here, or on each node."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from sandboxes import engine, vitals
from scaling.models import Node


class Command(BaseCommand):
    help = "Which engine isolates sandboxes, what it promises, and what each probe found. Exit code 1 without one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the same, for programs")
        parser.add_argument("--nodes", action="store_true", help="of each node, as its worker last told")

    def handle(self, *args: Any, **options: Any) -> None:
        ok = self._tell_nodes(options["json"]) if options["nodes"] else self._tell_here(options["json"])
        if not ok:
            sys.exit(1)

    def _tell_here(self, as_json: bool) -> bool:
        said = engine.describe()
        self.stdout.write(_as_json(said) if as_json else _in_words(said))
        return bool(said["engine"])

    def _tell_nodes(self, as_json: bool) -> bool:
        told = vitals.engines(Node.objects.all(), now=timezone.now())
        words = "\n\n".join(_of_node(each) for each in told)
        self.stdout.write(_as_json({each.name: each.said for each in told}) if as_json else words)
        return all(each.said["engine"] and not each.is_silent for each in told)


def _as_json(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=2, default=str)


def _of_node(told: vitals.NodeEngine) -> str:
    silent = f", silent since {told.seen:%Y-%m-%d %H:%M:%S} UTC" if told.seen and told.is_silent else ""
    return f"node      {told.name}{silent}\n{_in_words(told.said)}"


def _in_words(said: dict[str, Any]) -> str:
    lines = [f"engine    {said['engine'] or 'none: no code can run here'}"]
    lines += [f"since     {said['since']}: {said['why']}"] if said["since"] else []
    lines += [f"  because {reason}" for reason in said["reasons"] if not said["engine"]]
    lines += [f"promise   {promise}" for promise in said["promises"]]
    lines += [f"limit     {name}: {way}" for name, way in said["limits"].items()]
    for probe in said["probes"]:
        lines.append(f"probe     {probe['engine']}: {'passed' if probe['ok'] else 'failed'}")
        lines += [f"            {reason}" for reason in probe["reasons"]]
    for name, counts in said["pools"].items():
        lines.append(f"pool      {name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n".join(lines)
