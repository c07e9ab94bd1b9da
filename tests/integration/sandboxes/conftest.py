"""The daemons that tests share, and the scripted runtime of those that need none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.sandboxes import daemons
from tests.scripted import runtime  # noqa: F401 - a fixture of the tests that need no real one


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
