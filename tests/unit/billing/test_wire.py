"""x402's headers, read as something hostile."""

from __future__ import annotations

import base64
import json

import pytest

from billing.gateways.x402 import wire

OFFER = wire.Requirements("exact", "eip155:8453", 10_000, "0x" + "aa" * 20, "0x" + "bb" * 20, "USD Coin")


def test_what_is_required_is_written_as_the_specification_has_it():
    said = wire.required(accepts=[OFFER], url="https://ntd.example/api/v1/topups", error="why")

    assert json.loads(base64.b64decode(wire.encode(said))) == said
    assert (said["x402Version"], said["error"], said["resource"]["url"][-7:]) == (2, "why", "/topups")
    assert said["accepts"][0] == {
        "scheme": "exact",
        "network": "eip155:8453",
        "amount": "10000",
        "asset": "0x" + "aa" * 20,
        "payTo": "0x" + "bb" * 20,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USD Coin", "version": "2", "assetTransferMethod": "eip3009"},
    }


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{}",
        "####",
        "e30=",
        wire.encode({"accepted": 1, "payload": {}}),
        "A" * 20_000,
        base64.b64encode(b"[" * 9000),
    ],
)
def test_what_says_nothing_cannot_be_read(header):
    with pytest.raises(wire.Unreadable):
        wire.read(header if isinstance(header, str) else header.decode())
