"""`manage.py agent` says what is missing before it does anything."""

import pytest
from django.core.management import CommandError, call_command

URL = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("role", "options", "environment", "words"),
    [
        ("coordinator", {"federation": "f"}, {"NTD_API_KEY": "k"}, "FEDERATION_ROLE=coordinator does no tasks"),
        ("worker", {"federation": "f", "url": ""}, {"NTD_API_KEY": "k"}, "Set COORDINATOR_URL"),
        ("worker", {"federation": "f", "url": "ntd.example"}, {"NTD_API_KEY": "k"}, "Set COORDINATOR_URL"),
        ("both", {}, {}, "Give --federation"),
        ("both", {"federation": "f", "agent": "a"}, {}, "Give --federation"),
        ("both", {"federation": "f"}, {}, "NTD_API_KEY is not set"),
        ("both", {"agent": "a"}, {}, "NTD_AGENT_TOKEN is not set"),
        ("both", {"federation": "f", "capacity": 0}, {"NTD_API_KEY": "k"}, "--capacity is from 1"),
        ("both", {"federation": "f", "command": "true"}, {"NTD_API_KEY": "k"}, "gives no answer"),
    ],
)
@pytest.mark.enable_socket
def test_what_is_missing_is_said(settings, monkeypatch, role, options, environment, words):
    settings.FEDERATION_ROLE = role
    for name in ("NTD_API_KEY", "NTD_AGENT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(CommandError, match=words):
        call_command("agent", **{"url": URL, **options})
