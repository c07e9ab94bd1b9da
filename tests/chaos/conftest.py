"""The whole product, whose processes these tests kill."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import Product, free_port


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with tempfile.TemporaryDirectory(prefix="ntd-chaos-") as folder:
        running = Product(Path(folder), free_port())
        running.start("--no-sample")
        try:
            yield running
        finally:
            running.stop()
