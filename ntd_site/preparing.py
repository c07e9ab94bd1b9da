"""Whether a home was prepared by this very code: then the product need not wait for the preparation.

Standard library only. The mark is a digest of what a preparation depends on: migrations and static files.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ntd_site import embedded, parts

FILES = ("*/migrations/**/*", "static/**/*", "ntd_site/settings.py", "requirements.lock")


def _digest() -> str:
    digest = hashlib.sha256(os.environ.get("DATABASE_URL", "").encode())
    for pattern in FILES:
        for path in sorted(parts.ROOT.glob(pattern)):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(str(path).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _mark(where: embedded.Place) -> Path:
    return where.home / "prepared"


def is_done(where: embedded.Place) -> bool:
    try:
        return _mark(where).read_text() == _digest()
    except OSError:
        return False


def mark_done(where: embedded.Place) -> None:
    _mark(where).write_text(_digest())
