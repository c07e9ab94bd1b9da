"""EIP-712 against the example of the specification."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey

from billing.chains.keccak import keccak256
from billing.gateways.x402 import typed_data

TYPES = {
    "Mail": (("from", "Person"), ("to", "Person"), ("contents", "string")),
    "Person": (("name", "string"), ("wallet", "address")),
}
DOMAIN = {
    "name": "Ether Mail",
    "version": "1",
    "chainId": 1,
    "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
}
MAIL = {
    "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
    "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
    "contents": "Hello, Bob!",
}
DIGEST = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
SIGNATURE = (
    "4355c47d63924e8a72e509b65029052eb6c299d53a04e167c5775fd466751c9d"
    "07299936d304c153f6443dfa05f40ff007d72911b6f72307f996231605b91562" + "1c"
)


def test_the_specification_s_mail_has_its_digest_and_its_signer():
    made = typed_data.digest(domain=DOMAIN, types=TYPES, primary="Mail", message=MAIL)

    assert made.hex() == DIGEST
    assert typed_data.signer(made, bytes.fromhex(SIGNATURE)) == "0xcd2a3d9f938e13cd947ec05abc7fe734df8dd826"
    assert PrivateKey(keccak256(b"cow")).sign_recoverable(made, hasher=None)[:64].hex() == SIGNATURE[:128]


def test_the_other_s_of_the_same_signature_is_refused():
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    given = bytes.fromhex(SIGNATURE)
    other = given[:32] + (order - int.from_bytes(given[32:64], "big")).to_bytes(32, "big") + b"\x1b"

    with pytest.raises(typed_data.BadSignature):
        typed_data.signer(bytes.fromhex(DIGEST), other)


@pytest.mark.parametrize(
    "signature", [b"", b"\0" * 65, bytes.fromhex(SIGNATURE)[:64] + b"\0", b"\1" * 64 + b"\x1b\x1b"]
)
def test_what_is_no_signature_is_nobody_s(signature):
    with pytest.raises(typed_data.BadSignature):
        typed_data.signer(bytes.fromhex(DIGEST), signature)


@pytest.mark.parametrize("value", [-1, 2**256])
def test_a_number_that_does_not_fit_is_refused(value):
    with pytest.raises(ValueError, match="cannot be"):
        typed_data.digest(domain=DOMAIN, types={"N": (("n", "uint256"),)}, primary="N", message={"n": value})
