from collections.abc import Iterator

import pytest

from scaling import targets
from scaling.models import Group
from tests.fakes import FakeTarget


@pytest.fixture
def fake_target() -> Iterator[FakeTarget]:
    target = FakeTarget()
    targets.register("fake", target)
    yield target
    targets.unregister("fake")


@pytest.fixture(autouse=True)
def _no_groups_but_the_tests_own(request: pytest.FixtureRequest) -> None:
    """Sandboxes bring a group of their own; these tests are about scaling by itself."""
    if request.node.get_closest_marker("django_db"):
        Group.objects.all().delete()
