"""Ethereum's hash and its addresses, against published values (EIP-55)."""

from __future__ import annotations

import pytest

from billing.chains import keccak


def test_the_hash_is_ethereum_s_and_not_sha3():
    assert keccak.keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0x52908400098527886E0F7030069857D2E4169EE7",
    ],
)
def test_the_case_of_an_address_is_its_checksum(address):
    assert keccak.checksummed(address.lower()) == address
    assert keccak.is_address(address)
    assert keccak.is_address(address.lower())
    assert not keccak.is_address(address[:-1] + ("a" if address[-1] != "a" else "b"))
    assert keccak.is_address(address[:2] + address[2:].swapcase()) == address[2:].isupper()


def test_the_address_of_the_generator_s_point_is_the_known_one():
    # The public key of the private key 1.
    point = bytes.fromhex(
        "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
    )
    assert keccak.of_public_key(point) == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
