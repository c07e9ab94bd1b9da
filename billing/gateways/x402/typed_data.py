"""Pure. Typed data as wallets sign it (EIP-712), and whose signature it is (secp256k1, EIP-2 low s only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coincurve import PublicKey

from billing.chains import keccak
from billing.chains.keccak import keccak256

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
MOST = 2**256
Fields = Sequence[tuple[str, str]]
Types = Mapping[str, Fields]
DOMAIN: Fields = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class BadSignature(Exception):
    """It is nobody's."""


def digest(*, domain: Mapping[str, Any], types: Types, primary: str, message: Mapping[str, Any]) -> bytes:
    """The 32 bytes that are signed. The domain has those of its fields that are given."""
    known = {"EIP712Domain": [field for field in DOMAIN if field[0] in domain]}
    head = _struct("EIP712Domain", domain, known)
    return keccak256(b"\x19\x01" + head + _struct(primary, message, types))


def _struct(name: str, value: Mapping[str, Any], types: Types) -> bytes:
    parts = [keccak256(_described(name, types).encode())]
    parts += [_word(kind, value[field], types) for field, kind in types[name]]
    return keccak256(b"".join(parts))


def _described(name: str, types: Types) -> str:
    """`Mail(Person from,Person to)Person(string name)`: the struct, then those it names, by name."""
    used = _used(name, types, set())
    ordered = [name, *sorted(used - {name})]
    return "".join(f"{each}({','.join(f'{kind} {field}' for field, kind in types[each])})" for each in ordered)


def _used(name: str, types: Types, found: set[str]) -> set[str]:
    if name in types and name not in found:
        found.add(name)
        for _, kind in types[name]:
            _used(kind, types, found)
    return found


def _word(kind: str, value: Any, types: Types) -> bytes:
    """One field in its 32 bytes; raises ValueError for a value that does not fit."""
    if kind in types:
        return _struct(kind, value, types)
    if kind == "string":
        return keccak256(str(value).encode())
    if kind == "address":
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    if kind == "bytes32":
        return bytes.fromhex(value[2:])
    if kind == "uint256" and 0 <= value < MOST:
        return int(value).to_bytes(32, "big")
    raise ValueError(f"{kind} cannot be {value!r}.")


def signer(signed: bytes, signature: bytes) -> str:
    """The lower-case address whose signature of this digest it is. Raises BadSignature.

    65 bytes (r, s, v). The other s of the same signature is refused, as the tokens' contracts do.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise BadSignature("A signature has 65 bytes and ends with 27 or 28.")
    if int.from_bytes(signature[32:64], "big") > HALF_ORDER:
        raise BadSignature("The signature's s is the high one.")
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        key = PublicKey.from_signature_and_message(recoverable, signed, hasher=None)
    except Exception as wrong:
        raise BadSignature("The signature is none.") from wrong
    return keccak.of_public_key(key.format(compressed=False))
