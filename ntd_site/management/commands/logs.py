"""Print the logs of the parts; `-f` follows, a name chooses one part."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections import deque
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

FOLLOW_SECONDS = 0.2


class Command(BaseCommand):
    help = __doc__ or ""
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("part", nargs="?", help="web, worker, scheduler, sandboxes, postgres or valkey")
        parser.add_argument("-f", "--follow", action="store_true")
        parser.add_argument("-n", "--lines", type=int, default=40, help="how many of the last lines (40)")

    def handle(self, *args: Any, part: str | None, follow: bool, lines: int, **options: Any) -> None:
        files = self._files(part)
        for file in files:
            for line in deque(file.open(errors="replace"), maxlen=max(0, lines)):
                self._print(file, line)
        if follow:
            self._follow(part, {file: file.stat().st_size for file in files})

    def _files(self, part: str | None) -> list[Path]:
        found = sorted((settings.NTD_HOME / "logs").glob(f"{part or '*'}.log"))
        if not found:
            raise CommandError(f"No log of {part}." if part else "No logs yet. Start the product: manage.py up")
        return found

    def _print(self, file: Path, line: str) -> None:
        self.stdout.write(f"{file.stem:<10} | {line.rstrip()}")

    def _follow(self, part: str | None, offsets: dict[Path, int]) -> None:
        while True:
            for file in self._files(part):
                with file.open(errors="replace") as opened:
                    opened.seek(min(offsets.get(file, 0), file.stat().st_size))
                    for line in opened:
                        self._print(file, line)
                    offsets[file] = opened.tell()
            time.sleep(FOLLOW_SECONDS)
