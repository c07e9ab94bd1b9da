"""Says what isolates sandboxes, here and elsewhere or on each node, what it promises, and what each probe found."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from sandboxes import engine, vitals
from sandboxes.runtimes import LABELS
from scaling.models import Node


class Command(BaseCommand):
    help = "Which engines isolate sandboxes, what they promise, what each probe found. Exit code 1 without one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="the same, for programs")
        parser.add_argument("--nodes", action="store_true", help="of each node, as its worker last told")

    def handle(self, *args: Any, **options: Any) -> None:
        ok = self._tell_nodes(options["json"]) if options["nodes"] else self._tell_here(options["json"])
        if not ok:
            sys.exit(1)

    def _tell_here(self, as_json: bool) -> bool:
        found = {name: engine.describe(name) for name in engine.names()}
        words = "\n\n".join(_in_words(said, runtime=name) for name, said in found.items())
        self.stdout.write(_as_json(engine.describe() | {"runtimes": found}) if as_json else words)
        return any(said["engine"] for said in found.values())

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


def _in_words(said: dict[str, Any], *, runtime: str = "") -> str:
    lines = [f"runtime   {runtime}: {LABELS[runtime]}"] if runtime else []
    lines += [f"engine    {said['engine'] or 'none: no code can run here'}"]
    lines += [f"since     {said['since']}: {said['why']}"] if said.get("since") else []
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
