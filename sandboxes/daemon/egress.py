"""Pure. Where a sandbox with a network may reach: outward, never back into the host or its private networks.

off          nowhere                                          (also 0, false, no, or nothing)
outward      every public address, every port but 25          (also on, 1, true, yes)
host:port    only the places named, which may then be private: an operator or a template's build named them

Names are resolved once, every address that came out is judged, and the connection goes to a judged address:
a name that answers something else the next time gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# What the registries of special addresses say, in words for whoever is refused.
REFUSED_V4 = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address of a carrier's own network"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a reserved address"),
        ("198.51.100.0/24", "a reserved address"),
        ("203.0.113.0/24", "a reserved address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
REFUSED_V6 = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001:db8::/32", "a reserved address"),
        ("3fff::/20", "a reserved address"),
    )
)
GLOBAL_V6 = IPv6Network("2000::/3")
# All of it but Teredo is for protocols, not for hosts.
PROTOCOLS_V6 = IPv6Network("2001::/23")
NAT64 = IPv6Network("64:ff9b::/96")
OFF, ON = ("off", "0", "false", "no", ""), ("outward", "on", "1", "true", "yes")
REFUSED_PORTS = frozenset({25})
PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/@,]+)):([0-9]{1,5})")
LONGEST_NAME = 253


class BadPolicy(ValueError):
    """The text is no policy; it says why."""


@dataclass(frozen=True)
class Policy:
    """`only` names the places that may be reached, as (host, port); without any it is outward."""

    only: frozenset[tuple[str, int]] | None = None

    def as_text(self) -> str:
        if self.only is None:
            return "outward"
        return ",".join(_place_text(host, port) for host, port in sorted(self.only))


OUTWARD = Policy()


def parse(text: str) -> Policy | None:
    """None is no network at all."""
    asked = text.strip().lower()
    if asked in OFF:
        return None
    return OUTWARD if asked in ON else only(place for place in asked.split(",") if place.strip())


def only(places: Iterable[str]) -> Policy:
    return Policy(frozenset(_place(place.strip()) for place in places))


def _place(text: str) -> tuple[str, int]:
    found = PLACE.fullmatch(text)
    if found is None or not 1 <= int(found[3]) <= 65535:
        raise BadPolicy(f"{text!r} is not off, outward or a list of host:port")
    return canonical(found[1] or found[2]), int(found[3])


def _place_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def canonical(host: str) -> str:
    """One spelling for each host: names in lower case without a last dot, addresses as they are written shortest."""
    plain = host.lower().removesuffix(".")
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain


def judge_place(policy: Policy, host: str, port: int) -> str | None:
    """Why this place may not be asked for, before anything is resolved; None when it may."""
    if not host or len(host) > LONGEST_NAME:
        return "The name of the host is empty or too long."
    if policy.only is not None:
        if (canonical(host), port) in policy.only:
            return None
        return f"{_place_text(canonical(host), port)} is not among the places this sandbox may reach."
    if port in REFUSED_PORTS or not 1 <= port <= 65535:
        return f"Port {port} is not open to sandboxes."
    return None


def judge_addresses(policy: Policy, host: str, addresses: Iterable[tuple[str, bool]]) -> str | None:
    """Why none of these may be connected to; each is an address and whether it is the host's own.

    One refused address refuses the whole name: a name that mixes them is trying something.
    """
    if policy.only is not None:
        return None
    for text, is_own in addresses:
        kind = kind_refused(ip_address(text)) or ("an address of the host itself" if is_own else None)
        if kind:
            called = f"{host} is {text}," if canonical(host) != text else f"{host} is"
            return f"{called} {kind}. Sandboxes reach public addresses only."
    return None


def kind_refused(address: Address) -> str | None:
    """What kind of address this is, when it is one that sandboxes may not reach."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in REFUSED_V4 if address in network), None)
    plain = next((kind for network, kind in REFUSED_V6 if address in network), None)
    if plain:
        return plain
    inner = _carried(address)
    if inner is not None:
        return kind_refused(inner)
    return None if address in GLOBAL_V6 and address not in PROTOCOLS_V6 else "a reserved address"


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this one ends at: mapped, NAT64, 6to4 and Teredo."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        server, client = address.teredo
        return server if kind_refused(server) else client
    return None
