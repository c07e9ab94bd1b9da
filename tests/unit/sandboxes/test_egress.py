"""Where sandboxes may reach: every kind of address that leads back into the host or its networks is refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sandboxes.daemon import egress
from sandboxes.daemon.egress import OUTWARD, BadPolicy, judge_addresses, judge_place, kind_refused, only, parse

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "2606:4700::1111"]


def nat64(inner: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(inner))


def six_to_four(inner: IPv4Address) -> IPv6Address:
    return IPv6Address((0x2002 << 112) | (int(inner) << 80))


def teredo(server: IPv4Address, client: IPv4Address) -> IPv6Address:
    return IPv6Address((0x20010000 << 96) | (int(server) << 64) | (int(client) ^ 0xFFFFFFFF))


def mapped(inner: IPv4Address) -> IPv6Address:
    return IPv6Address((0xFFFF << 32) | int(inner))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("100.64.0.1", "carrier"),
        ("100.100.100.200", "carrier"),
        ("168.63.129.16", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("192.0.2.1", "reserved"),
        ("198.18.0.1", "reserved"),
        ("203.0.113.1", "reserved"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "reserved"),
        ("2001:20::1", "reserved"),
        ("64:ff9b:1::1", "reserved"),
        ("::7f00:1", "reserved"),
        ("4000::1", "reserved"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("2002:7f00:1::", "loopback"),
        ("2002:c0a8:101::1", "private"),
        (str(teredo(IPv4Address("8.8.8.8"), IPv4Address("10.0.0.1"))), "private"),
        (str(teredo(IPv4Address("127.0.0.1"), IPv4Address("8.8.8.8"))), "loopback"),
    ],
)
def test_an_address_that_leads_inside_is_refused_by_its_kind(address, kind):
    assert kind in (kind_refused(ip_address(address)) or "")


@pytest.mark.parametrize("address", [*PUBLIC, "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"])
def test_a_public_address_is_allowed(address):
    assert kind_refused(ip_address(address)) is None
    assert judge_addresses(OUTWARD, "example", [(address, False)]) is None


@given(address=st.one_of(V4, V6))
def test_nothing_that_python_calls_special_is_allowed(address):
    special = (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified
    )  # fmt: skip
    assume(special and egress._carried(address) is None if isinstance(address, IPv6Address) else special)

    assert kind_refused(address)


@given(inner=V4, other=V4)
def test_a_refused_address_stays_refused_in_every_disguise(inner, other):
    wrong = kind_refused(inner)

    for disguise in (mapped(inner), nat64(inner), six_to_four(inner)):
        assert kind_refused(disguise) == wrong
    assert bool(kind_refused(teredo(other, inner))) == bool(wrong or kind_refused(other))


@given(address=V6)
def test_an_ipv6_address_outside_the_global_ones_is_refused(address):
    assume(address not in egress.GLOBAL_V6 and egress._carried(address) is None)

    assert kind_refused(address)


def test_an_address_of_the_host_is_refused_however_public_it_is():
    said = judge_addresses(OUTWARD, "me.example", [("8.8.8.8", True)])

    assert said == "me.example is 8.8.8.8, an address of the host itself. Sandboxes reach public addresses only."


@given(before=st.lists(V4.filter(lambda a: kind_refused(a) is None), max_size=3))
def test_one_refused_address_refuses_the_whole_name(before):
    found = [(str(address), False) for address in before]

    assert judge_addresses(OUTWARD, "mixed", [*found, ("10.0.0.1", False)])
    assert judge_addresses(OUTWARD, "public", found) is None


def test_mail_is_refused_and_every_other_port_is_open():
    assert judge_place(OUTWARD, "example", 25) == "Port 25 is not open to sandboxes."
    assert all(judge_place(OUTWARD, "example", port) is None for port in (1, 22, 80, 443, 587, 65535))
    assert judge_place(OUTWARD, "example", 0)
    assert judge_place(OUTWARD, "", 80)
    assert judge_place(OUTWARD, "x" * 254, 80)


def test_named_places_are_all_there_is_and_may_be_private():
    policy = only(["prices.example:443", "127.0.0.1:8000", "[::1]:80"])

    assert judge_place(policy, "Prices.Example.", 443) is None
    assert judge_place(policy, "0:0:0:0:0:0:0:1", 80) is None
    assert judge_addresses(policy, "prices.example", [("10.0.0.1", True)]) is None
    for host, port in (("prices.example", 80), ("127.0.0.1", 8001), ("other.example", 443), ("::2", 80)):
        assert "is not among the places" in (judge_place(policy, host, port) or "")


@pytest.mark.parametrize("text", ["", "off", " off ", "0", "False", "no"])
def test_off_is_no_policy(text):
    assert parse(text) is None


@pytest.mark.parametrize("text", ["outward", "on", "1", "True", "yes"])
def test_on_is_outward(text):
    assert parse(text) == OUTWARD


def test_a_policy_survives_being_written_down():
    assert parse("outward") == OUTWARD
    listed = parse("B.example:80, [0::1]:443,10.0.0.1:1")
    assert listed is not None
    assert listed.as_text() == "10.0.0.1:1,[::1]:443,b.example:80"
    assert parse(listed.as_text()) == listed
    assert parse(only([]).as_text() or "off") is None


@pytest.mark.parametrize(
    "text", ["maybe", "a", "a:", "a:0", "a:65536", ":80", "a b:80", "http://a:80", "a:80;b:80", "::1:80"]
)
def test_a_text_that_is_no_policy_is_refused(text):
    with pytest.raises(BadPolicy, match="is not off, outward or a list of host:port"):
        parse(text)
