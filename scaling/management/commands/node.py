"""`manage.py node NAME`: register a machine that reports from elsewhere, or give it a new token."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from scaling import nodes
from scaling.models import NAME, Node


class Command(BaseCommand):
    help = "Register a node, or give a registered one a new token; prints its id and token."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--role", default="worker")
        parser.add_argument("--region", default="")
        parser.add_argument("--beat-seconds", type=float, default=1.0)
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            NAME(options["name"])
        except ValidationError as wrong:
            raise CommandError(f"{options['name']!r} is no name for a node. {' '.join(wrong.messages)}") from wrong
        node, token = _registered(options)
        if options["json"]:
            self.stdout.write(json.dumps({"node": str(node.pk), "name": node.name, "token": token}))
            return
        self.stdout.write(f"Node {node.name}: {node.pk}\nToken (shown only now): {token}")


def _registered(options: dict[str, Any]) -> tuple[Node, str]:
    known = Node.objects.filter(name=options["name"]).first()
    if known is not None:
        return known, nodes.renew_token(node=known)
    return nodes.register(
        name=options["name"],
        role=options["role"],
        region=options["region"],
        beat_seconds=options["beat_seconds"],
        now=timezone.now(),
    )
