"""Runs the benchmarks named, or all: every bench_*.py of this folder has a BENCH."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

from ntd_site import embedded
from tests.bench import harness

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="manage.py bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which of: {', '.join(NAMES)}")
    parser.add_argument("--output", type=Path, default=Path("bench-results"))
    given = parser.parse_args(arguments)
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    # As durable as in production: a ledger that does not sync would be measured too fast.
    servers = embedded.Throwaway(durable=True)
    place = servers.start()
    os.environ |= {
        "DATABASE_URL": place.database_url,
        "REDIS_URL": place.redis_url,
        "NTD_HOME": tempfile.mkdtemp(prefix="ntd-bench-"),
        "DJANGO_SETTINGS_MODULE": "ntd_site.settings",
    }
    try:
        results = [_run(name) for name in given.names or NAMES]
    finally:
        servers.stop()
    print(f"written to {harness.write(results, given.output)}")
    return 0 if all(_is_reached(result) for result in results) else 1


def _run(name: str) -> dict[str, object]:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    result = harness.measure(importlib.import_module(f"tests.bench.bench_{name}").BENCH)
    print(harness.report(result), flush=True)
    return result


def _is_reached(result: dict[str, object]) -> bool:
    return all(case["reached"] is not False for case in result["cases"].values())  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
