"""The daemons that tests share, and the scripted runtime of those that need none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fake_e2b
from tests.integration.sandboxes import clouds, daemons
from tests.scripted import e2b, runtime  # noqa: F401 - fixtures of the tests that need no real ones


@pytest.fixture(scope="session")
def _session_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[daemons.Daemon]:
    state = tmp_path_factory.mktemp("daemon")
    options = ["--ready", "2", "--running", "4"]
    daemon = daemons.Daemon.start(state, *options, *(["--node", daemons.node()] if daemons.node() else []))
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(_session_daemon: daemons.Daemon) -> daemons.Daemon:
    if _session_daemon.ready["engine"] is None:
        daemons.cannot_isolate(_session_daemon.ready)
    return _session_daemon


@pytest.fixture
def own_daemon(tmp_path: Path) -> Iterator[daemons.Daemon]:
    """A daemon for one test, which may do to it what it likes."""
    daemon = daemons.Daemon.start(tmp_path, "--ready", "2", "--running", "2", "--node", "")
    if daemon.ready["engine"] is None:
        daemon.stop()
        daemons.cannot_isolate(daemon.ready)
    yield daemon
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
