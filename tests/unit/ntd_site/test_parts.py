"""The commands of the product's processes."""

from __future__ import annotations

import pytest

from ntd_site import embedded, parts
from sandboxes.daemon import egress


@pytest.mark.parametrize(
    ("given", "policy"),
    [(None, None), ("", None), ("0", None), ("1", egress.OUTWARD), ("a.example:443", egress.only(["a.example:443"]))],
)
def test_the_sandbox_daemon_is_told_where_sandboxes_may_reach(monkeypatch, tmp_path, given, policy):
    monkeypatch.delenv("NTD_SANDBOX_NETWORK", raising=False)
    if given is not None:
        monkeypatch.setenv("NTD_SANDBOX_NETWORK", given)

    part = parts.sandbox_daemon(embedded.place(tmp_path), "node", parts.Options(), parts.Provided())

    assert egress.parse(part.command[part.command.index("--network") + 1]) == policy
