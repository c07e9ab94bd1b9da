"""Whether the settings of payments in USDC fit together; for checks.py."""

from __future__ import annotations

import re
from fractions import Fraction

from django.conf import settings

from billing.chains import addresses, keccak

NETWORK = re.compile(r"eip155:[1-9][0-9]{0,17}")
Found = tuple[str, str, str]


def found() -> list[Found]:
    """What is wrong: code, sentence, hint."""
    if settings.SIMULATED_CHAIN:
        return _simulated()
    return [*_receiving(), *_chain(), *_x402()] if settings.USDC_RPC_URL else _x402()


def _x402() -> list[Found]:
    given = (settings.X402_FACILITATOR_URL, settings.X402_PAY_TO)
    if not any(given):
        return []
    wrong: list[Found] = []
    if not (all(given) and settings.USDC_RPC_URL):
        text = "x402 needs NTD_X402_FACILITATOR_URL, NTD_X402_PAY_TO and NTD_USDC_RPC_URL."
        wrong.append(("E039", text, "Set all three, or none of the first two."))
    for name in ("X402_PAY_TO", "X402_FACILITATOR_ADDRESS"):
        value = getattr(settings, name)
        if value and not keccak.is_address(value):
            wrong.append(("E040", f"NTD_{name} is no address.", "0x and 40 digits."))
    return wrong


def _simulated() -> list[Found]:
    if settings.NTD_ENV != "production" and not settings.USDC_RPC_URL:
        return []
    text = "NTD_SIMULATED_CHAIN is on where real payments are taken: anybody can have credits for nothing."
    return [("E030", text, "Unset it.")]


def _chain() -> list[Found]:
    wrong: list[Found] = []
    if not NETWORK.fullmatch(settings.USDC_NETWORK):
        wrong.append(("E031", "NTD_USDC_NETWORK is no EVM network.", "As CAIP-2 writes it: eip155:8453 is Base."))
    if not keccak.is_address(settings.USDC_TOKEN):
        wrong.append(("E032", "NTD_USDC_TOKEN is no address.", "The address of the USDC contract on that network."))
    if not 1 <= settings.USDC_CONFIRMATIONS <= 1000:
        wrong.append(("E033", "NTD_USDC_CONFIRMATIONS must be 1 to 1000.", "12 is usual."))
    if not _is_rate(settings.USDC_RATE):
        hint = f"How many USDC one {settings.CREDIT_CURRENCY} is, for example 1.08."
        wrong.append(("E034", "NTD_USDC_RATE is no decimal above zero.", hint))
    return wrong


def _is_rate(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text)) and Fraction(text) > 0


def _receiving() -> list[Found]:
    """Where it is paid to: the public half of a key, or addresses."""
    wrong: list[Found] = []
    given = bool(settings.USDC_XPUB) + bool(settings.USDC_ADDRESSES)
    if given == 2 or not (given or settings.X402_PAY_TO):
        text = "NTD_USDC_RPC_URL needs one of NTD_USDC_XPUB and NTD_USDC_ADDRESSES, or NTD_X402_PAY_TO."
        wrong.append(("E035", text, "Set where it is to be paid to; never two ways for one address."))
    if settings.USDC_XPUB:
        try:
            addresses.parse(settings.USDC_XPUB)
        except addresses.BadKey as why:
            hint = "Never an xprv: no private key belongs here."
            wrong.append(("E036", f"NTD_USDC_XPUB is no extended public key: {why}.", hint))
    for each in settings.USDC_ADDRESSES:
        if not keccak.is_address(each):
            wrong.append(("E037", f"NTD_USDC_ADDRESSES has {each[:50]!r}, which is no address.", "0x and 40 digits."))
    return wrong
