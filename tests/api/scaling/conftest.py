from collections.abc import Iterator

import pytest

from scaling import targets
from tests.fakes import FakeTarget


@pytest.fixture
def fake_target() -> Iterator[FakeTarget]:
    target = FakeTarget()
    targets.register("fake", target)
    yield target
    targets.unregister("fake")
