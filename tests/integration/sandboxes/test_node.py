"""Programs of Node, where they are given things and fail in a way of their own."""

from __future__ import annotations

import os

import pytest

from tests.integration.sandboxes.daemons import run


@pytest.fixture
def runtime(daemon):
    if "node" not in daemon.runtime.describe()["languages"]:
        why = "there is no Node here: put node on PATH or set NTD_TEST_NODE"
        pytest.fail(why) if os.environ.get("NTD_REQUIRE_SANDBOX") == "1" else pytest.skip(why)
    return daemon.runtime


def test_it_runs_as_commonjs_with_all_it_was_given(runtime):
    code = """
const fs = require('fs');
console.log(fs.readFileSync(0, 'utf8'), process.argv.slice(2), process.env.A, require('./lib').x, require.main === module);
fs.writeFileSync('artifacts/out.json', '{}');
"""
    given = {"stdin": b"in", "args": ("one",), "env": {"A": "b"}, "files": {"lib.js": b"exports.x = 7;"}}

    outcome = run(runtime, code, language="node", **given)

    assert outcome.stdout == b"in [ 'one' ] b 7 true\n"
    assert [each.path for each in outcome.artifacts] == ["out.json"]


def test_an_exception_has_the_callers_line(runtime):
    outcome = run(runtime, "\n\nthrow new Error('no')", language="node")

    assert outcome.exit_code == 1
    assert b"/workspace/main.js:3" in outcome.stderr
