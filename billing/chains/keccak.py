"""Pure. Ethereum's hash, and addresses as it writes them (EIP-55: the case of the letters is a checksum)."""

from __future__ import annotations

import re

from Crypto.Hash import keccak

ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def keccak256(data: bytes) -> bytes:
    digest: bytes = keccak.new(digest_bits=256, data=data).digest()
    return digest


def checksummed(address: str) -> str:
    """The address in the case that EIP-55 gives it."""
    letters = address.lower().removeprefix("0x")
    marks = keccak256(letters.encode()).hex()
    return "0x" + "".join(
        letter.upper() if int(mark, 16) >= 8 else letter for letter, mark in zip(letters, marks, strict=False)
    )


def is_address(text: str) -> bool:
    """All in one case, or with a checksum that is right."""
    if not ADDRESS.fullmatch(text):
        return False
    return text[2:] in (text[2:].lower(), text[2:].upper()) or text == checksummed(text)


def of_public_key(uncompressed: bytes) -> str:
    """The lower-case address of a public key of 65 bytes."""
    return "0x" + keccak256(uncompressed[1:])[-20:].hex()
