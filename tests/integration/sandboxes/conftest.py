"""The daemons that tests share, and the scripted runtime of those that need none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import fake_e2b
from tests.integration.sandboxes import clouds, daemons
from tests.scripted import e2b, runtime  # noqa: F401 - fixtures of the tests that need no real ones


@pytest.fixture(scope="session")
def daemon_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], daemons.Daemon]]:
    """The session's daemon of an engine, started when it is first asked for."""
    started: dict[str, daemons.Daemon] = {}

    def of(engine: str) -> daemons.Daemon:
        if engine not in started:
            options = [*daemons.on(engine), "--ready", "2", "--running", "4", "--node", daemons.node()]
            started[engine] = daemons.Daemon.start(tmp_path_factory.mktemp(engine), *options)
        return daemons.isolating(started[engine], engine)

    yield of
    for each in started.values():
        each.stop()


@pytest.fixture(params=daemons.ENGINES)
def daemon(request: pytest.FixtureRequest, daemon_of: Callable[[str], daemons.Daemon]) -> daemons.Daemon:
    return daemon_of(request.param)


@pytest.fixture
def own_daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[daemons.Daemon]:
    """A daemon for one test, which may do to it what it likes; on bubblewrap, unless the test names engines."""
    engine = getattr(request, "param", "bubblewrap")
    options = [*daemons.on(engine), "--ready", "2", "--running", "2", "--node", ""]
    daemon = daemons.Daemon.start(tmp_path, *options)
    try:
        yield daemons.isolating(daemon, engine)
    finally:
        if daemon.child.poll() is None:
            daemon.stop()


@pytest.fixture(scope="session")
def _session_cloud() -> Iterator[fake_e2b.FakeE2B]:
    with fake_e2b.running() as fake:
        yield fake


@pytest.fixture
def cloud(_session_cloud: fake_e2b.FakeE2B) -> Iterator[clouds.FakeCloud]:
    """The fake E2B cloud, as new, and an adapter of its own that speaks to it."""
    why = fake_e2b.why_not()
    if why:
        daemons.cannot_isolate({"reasons": [why]})
    yield clouds.FakeCloud(_session_cloud)
    clouds.wait_for_the_last()
    _session_cloud.forget()
