"""Both servers for a test run: the embedded ones, unless DATABASE_URL and REDIS_URL name others."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from urllib.parse import urlsplit, urlunsplit

import django
import hypothesis
import pytest

from ntd_site import embedded

# Examples are not timed: on a busy machine a slow one says nothing about the code.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

LOOPBACK = "127.0.0.1"
OURS = "NTD_TEST_OURS"
_servers: embedded.Throwaway | None = None


def _start_servers() -> None:
    """Settings read the environment once, so the servers are up before Django is."""
    global _servers
    ours = []
    if "NTD_HOME" not in os.environ:
        os.environ["NTD_HOME"] = tempfile.mkdtemp(prefix="ntd-test-home-")
        atexit.register(shutil.rmtree, os.environ["NTD_HOME"], ignore_errors=True)
        ours.append("NTD_HOME")
    # WhiteNoise warns when its folder is missing, and warnings are errors.
    os.makedirs(os.path.join(os.environ["NTD_HOME"], "static"), exist_ok=True)
    os.environ["NTD_DB_POOL"] = "0"
    wants = {"postgres": not os.environ.get("DATABASE_URL"), "valkey": not os.environ.get("REDIS_URL")}
    if any(wants.values()):
        _servers = embedded.Throwaway()
        place = _servers.start(**wants)
    if wants["postgres"]:
        os.environ["DATABASE_URL"] = place.database_url
        ours.append("DATABASE_URL")
    if wants["valkey"]:
        os.environ["REDIS_URL"] = place.redis_url
        ours.append("REDIS_URL")
    os.environ[OURS] = " ".join(ours)


def _apart_from_others() -> None:
    """Processes that test side by side share nothing but a named Redis, of which each has a database."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return
    for name in os.environ.pop(OURS, "").split():  # what the process started that started us
        del os.environ[name]
    if url := os.environ.get("REDIS_URL"):
        parts = urlsplit(url)
        database = int(parts.path.strip("/") or 0) + int(worker.removeprefix("gw"))
        os.environ["REDIS_URL"] = urlunsplit(parts._replace(path=f"/{database}"))


_apart_from_others()
_start_servers()
# Set here and not in pyproject.toml, where pytest-django would load the settings before the servers are up.
os.environ["DJANGO_SETTINGS_MODULE"] = "ntd_site.settings"
django.setup()
# Nor may the processes inherit it that test beside this one: pytest-django would load the settings of our servers there.
del os.environ["DJANGO_SETTINGS_MODULE"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Tests have no network, but for the Redis that REDIS_URL names (libpq's sockets are not Python's) and the fakes
    of other services, which listen on this machine."""
    host = urlsplit(os.environ["REDIS_URL"]).hostname
    config.option.allow_hosts = ",".join({LOOPBACK, host or LOOPBACK})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes test side by side, nobody should wait at the end for one that started a product last.

    With NTD_OTHER_SERVERS=1 what was tested already, and meets neither server, is left out.
    """
    if os.environ.get("NTD_OTHER_SERVERS") == "1":
        left = [item for item in items if _is_of_the_daemon_alone(item)]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("chaos", "browser"))))


def _is_of_the_daemon_alone(item: pytest.Item) -> bool:
    fixtures = set(getattr(item, "fixturenames", ()))
    return "sandboxes" in item.path.parts and not item.get_closest_marker("django_db") and "db" not in fixtures


def pytest_unconfigure(config: pytest.Config) -> None:
    if _servers is not None:
        _servers.stop()


@pytest.fixture(autouse=True)
def _fast_and_quiet(settings: object) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # type: ignore[attr-defined]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _no_renewal_of_what_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that renews leases sees only what is committed: it would stop a test's slow program as lost."""
    from sandboxes import leases

    monkeypatch.setattr(leases, "RENEW_SECONDS", 3600.0)
