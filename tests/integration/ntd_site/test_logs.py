"""What a log line may hold: a traceback, never the values that were in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FAILING = """
import django, logging
django.setup()
def work():
    api_key = "ntd_" + "do-not-print-me"
    raise ValueError("it broke")
try:
    work()
except ValueError:
    logging.getLogger("test").exception("failed")
"""


@pytest.mark.parametrize("as_json", ["0", "1"])
def test_a_traceback_shows_no_local_variables(as_json: str) -> None:
    environment = os.environ | {"NTD_LOG_JSON": as_json, "DJANGO_SETTINGS_MODULE": "ntd_site.settings"}

    done = subprocess.run(
        [sys.executable, "-c", FAILING], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert "it broke" in done.stderr
    assert "ntd_do-not-print-me" not in done.stderr
