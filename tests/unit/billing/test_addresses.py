"""Addresses to be paid at, against the published vectors of BIP-32."""

from __future__ import annotations

import pytest

from billing.chains import addresses
from billing.chains.simulated import XPUB


def test_public_children_are_those_of_bip_32():
    # Test vector 2: m, and m/0.
    master = addresses.parse(
        "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB"
    )
    wanted = addresses.parse(
        "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH"
    )
    assert addresses.child(master, 0) == wanted


def test_each_index_has_an_address_of_its_own():
    assert len({addresses.derived(XPUB, index) for index in range(20)}) == 20


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xpub",
        XPUB[:-1] + "9",
        XPUB.replace("x", "0", 1),
        # A private key, whose place is never here.
        "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
    ],
)
def test_what_is_no_extended_public_key_is_refused(text):
    with pytest.raises(addresses.BadKey):
        addresses.parse(text)
