"""What the supervisor of this home wrote about itself, if it lives."""

from __future__ import annotations

import json
from typing import Any

import psutil

from ntd_site import embedded
from ntd_site.supervisor import status_file


def read(where: embedded.Place) -> dict[str, Any] | None:
    """The supervisor's status, or None when it does not run."""
    try:
        status: dict[str, Any] = json.loads(status_file(where).read_text())
    except (OSError, ValueError):
        return None
    try:
        command = psutil.Process(status["pid"]).cmdline()
    except psutil.Error:
        return None
    return status if any("ntd_site.supervisor" in word for word in command) else None


def memory_bytes(pid: int) -> int:
    """Proportional memory (PSS) of a process and its children; shared pages are counted once."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.Error:
            continue
    return total


def memory_bytes_own(pid: int) -> int:
    """Proportional memory of one process without its children."""
    try:
        full = psutil.Process(pid).memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(full, "pss", full.rss))
