"""Pure. Addresses to be paid at: from an extended public key (BIP-32), or from a list. Private keys are never here."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from coincurve import PublicKey

from billing.chains import keccak

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
XPUB = bytes.fromhex("0488b21e")
# BIP-32 keeps the indexes from here on for private keys.
MOST_INDEX = 2**31


class BadKey(Exception):
    """The text is no extended public key; it says why."""


@dataclass(frozen=True)
class ExtendedKey:
    chain_code: bytes
    point: PublicKey


def parse(text: str) -> ExtendedKey:
    """Raises BadKey. A private key (`xprv`) is refused, so that none is kept here by mistake."""
    raw = _base58check(text)
    if len(raw) != 78 or raw[:4] != XPUB:
        raise BadKey("it must begin with xpub")
    try:
        return ExtendedKey(chain_code=raw[13:45], point=PublicKey(raw[45:]))
    except ValueError as wrong:
        raise BadKey("its point is not on the curve") from wrong


def _base58check(text: str) -> bytes:
    number = 0
    for letter in text:
        found = BASE58.find(letter)
        if found < 0 or len(text) > 120:
            raise BadKey("it is not base58")
        number = number * 58 + found
    raw = number.to_bytes(100, "big").lstrip(b"\0")
    body, sum_ = raw[:-4], raw[-4:]
    if hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4] != sum_:
        raise BadKey("its checksum is wrong")
    return body.rjust(78, b"\0")


def child(key: ExtendedKey, index: int) -> ExtendedKey:
    """BIP-32 CKDpub: the public child of this index. Raises BadKey for the one index in 2^127 that has none."""
    data = key.point.format(compressed=True) + index.to_bytes(4, "big")
    made = hmac.new(key.chain_code, data, hashlib.sha512).digest()
    try:
        return ExtendedKey(chain_code=made[32:], point=key.point.add(made[:32]))
    except ValueError as wrong:
        raise BadKey(f"it has no child {index}") from wrong


def derived(xpub: str, index: int) -> str:
    """The lower-case address at `<xpub>/<index>`. Raises BadKey."""
    return keccak.of_public_key(child(parse(xpub), index).point.format(compressed=False))
