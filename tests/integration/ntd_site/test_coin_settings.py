"""Settings of payments in USDC that do not fit together stop the start."""

from __future__ import annotations

import pytest

from billing.chains.simulated import XPUB
from ntd_site import checks

GOOD = {
    "SIMULATED_CHAIN": False,
    "USDC_RPC_URL": "https://node.example/key",
    "USDC_NETWORK": "eip155:8453",
    "USDC_TOKEN": "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    "USDC_XPUB": XPUB,
    "USDC_ADDRESSES": [],
    "USDC_CONFIRMATIONS": 12,
    "USDC_RATE": "1.08",
    "X402_FACILITATOR_URL": "",
    "X402_FACILITATOR_ADDRESS": "",
    "X402_PAY_TO": "",
}
X402 = {"X402_FACILITATOR_URL": "https://pay.example", "X402_PAY_TO": "0x" + "ab" * 20}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"USDC_XPUB": "", "USDC_ADDRESSES": ["0x" + "ab" * 20]}, []),
        ({"USDC_RPC_URL": "", "USDC_XPUB": "", "USDC_RATE": ""}, []),
        ({"USDC_RPC_URL": "", "SIMULATED_CHAIN": True}, []),
        ({"SIMULATED_CHAIN": True}, ["E030"]),
        ({"USDC_RPC_URL": "", "SIMULATED_CHAIN": True, "NTD_ENV": "production"}, ["E030"]),
        ({"USDC_NETWORK": "base"}, ["E031"]),
        ({"USDC_TOKEN": ""}, ["E032"]),
        ({"USDC_CONFIRMATIONS": 0}, ["E033"]),
        ({"USDC_RATE": ""}, ["E034"]),
        ({"USDC_RATE": "0.0"}, ["E034"]),
        ({"USDC_ADDRESSES": ["0x" + "ab" * 20]}, ["E035"]),
        ({"USDC_XPUB": ""}, ["E035"]),
        ({"USDC_XPUB": "xprv9s21"}, ["E036"]),
        ({"USDC_XPUB": "", "USDC_ADDRESSES": ["0x12"]}, ["E037"]),
        ({"USDC_RPC_URL": "http://node.example"}, ["E038"]),
        (X402, []),
        ({**X402, "USDC_XPUB": ""}, []),
        ({**X402, "X402_PAY_TO": ""}, ["E039"]),
        ({**X402, "USDC_RPC_URL": ""}, ["E039"]),
        ({**X402, "X402_FACILITATOR_ADDRESS": "0x1"}, ["E040"]),
        ({**X402, "X402_FACILITATOR_URL": "http://pay.example"}, ["E041"]),
    ],
)
def test_usdc_is_off_or_whole(settings, changes, codes):
    for name, value in {**GOOD, **changes}.items():
        setattr(settings, name, value)

    found = [error.id for error in checks.check_settings(None)]

    assert [each for each in found if each[4:] >= "E030" and each[4] == "E"] == [f"ntd.{code}" for code in codes]
