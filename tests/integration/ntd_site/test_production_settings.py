"""The settings as a fresh process reads them from the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
E2B_KEY = "e2b_" + "0f" * 20
PRODUCTION = {
    "NTD_ENV": "production",
    "DATABASE_URL": "postgresql://ntd:secret@db.example/ntd",
    "REDIS_URL": "redis://redis.example/0",
    "SECRET_KEY": "k3" * 40 + "-abcdefghijklmnop",
    "NTD_BASE_URL": "https://ntd.example",
    "ALLOWED_HOSTS": "ntd.example",
}
SECRET = {"NTD_GATEWAY_SECRET_HTTP": "whsec_bnRkLXRlc3Qtc2VjcmV0LW9mLXRoaXJ0eS1ieXRlcw=="}


def check(home, **changes):
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = keep | {"NTD_HOME": str(home), "NTD_SKIP_VENV": "1"} | PRODUCTION | changes
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PAYMENT_GATEWAY_URL": "https://pay.example/v1", **SECRET},
        {"E2B_API_KEY": E2B_KEY, "NTD_DEFAULT_RUNTIMES": "local,e2b"},
    ],
)
def test_production_settings_are_clean(tmp_path, changes):
    result = check(tmp_path, **changes)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"DATABASE_URL": "sqlite:///x.db"}, "does not run on"),
        ({"DATABASE_URL": None}, "needs its own PostgreSQL and Redis"),
        ({"DEBUG": "1"}, "DEBUG is on in production"),
        ({"NTD_TEST_CLOCK": "1"}, "NTD_TEST_CLOCK needs DEBUG"),
        ({"FEDERATION_ROLE": "worker"}, "needs COORDINATOR_URL"),
        ({"E2B_API_KEY": "sk-123"}, "E2B_API_KEY has not the form of a key"),
        ({"E2B_API_KEY": f"'{E2B_KEY}'"}, "E2B_API_KEY has not the form of a key"),
        ({"E2B_API_URL": "api.example", "E2B_DOMAIN": "example"}, "E2B_API_URL must be an http(s) address"),
        ({"E2B_API_URL": "https://api.example"}, "would send the sandboxes' tokens to the E2B cloud"),
        ({"E2B_MAX_SANDBOXES": "0"}, "E2B_MAX_SANDBOXES must be at least 1"),
        ({"E2B_LONGEST_SECONDS": "10"}, "E2B_LONGEST_SECONDS must be at least 60"),
        ({"NTD_DEFAULT_RUNTIMES": "mars"}, "NTD_DEFAULT_RUNTIMES is 'mars'"),
        ({"NTD_DEFAULT_RUNTIMES": "local,local"}, "NTD_DEFAULT_RUNTIMES is 'local,local'"),
        ({"NTD_DEFAULT_RUNTIMES": "local,e2b"}, "names e2b, which needs E2B_API_KEY"),
        ({"NTD_SANDBOX_ENGINE": "docker"}, "NTD_SANDBOX_ENGINE is 'docker'"),
        ({"NTD_SANDBOX_NETWORK": "everywhere"}, "NTD_SANDBOX_NETWORK: 'everywhere' is not off, outward"),
        ({"NTD_MCP_ALLOW": "tools.internal"}, "NTD_MCP_ALLOW: 'tools.internal' is not"),
        ({"PAYMENT_GATEWAY_URL": "https://pay.example"}, "needs NTD_GATEWAY_SECRET_HTTP"),
        ({"PAYMENT_GATEWAY_URL": "http://pay.example", **SECRET}, "must begin with https://"),
        ({"PAYMENT_GATEWAY_URL": "ftp://pay.example", **SECRET}, "must be an http(s) address"),
        ({"PAYMENT_GATEWAY_URL": "https://me:secret@pay.example", **SECRET}, "must have no user"),
        ({"PAYMENT_GATEWAY_URL": "https://[pay", **SECRET}, "is no address"),
        ({"NTD_GATEWAY_SECRET_HTTP": "whsec_c2hvcnQ="}, "NTD_GATEWAY_SECRET_HTTP is no secret"),
        ({"NTD_SIMULATED_GATEWAY": "1"}, "anybody can have credits for nothing"),
    ],
)
def test_wrong_settings_stop_with_a_sentence(tmp_path, changes, sentence):
    result = check(tmp_path, **changes)

    assert result.returncode != 0
    assert sentence in result.stderr
    assert E2B_KEY not in result.stderr
    assert "Traceback" not in result.stderr
