"""Where webhooks may go: public addresses, and private ones that the operator allows (`NTD_WEBHOOK_PRIVATE_NETWORKS`).

Which kinds of addresses are refused is one rule for all of the product (`settings.ADDRESS_REFUSED`). A name is resolved
once for each request, every address that comes out is judged, and the connection goes to a judged one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

import psutil
from django.conf import settings

LONGEST_URL = 2000
REFUSED_PORTS = frozenset({25, 465, 587})


class BadAddress(Exception):
    """Raised for an address that webhooks cannot be sent to."""

    code = "validation_error"

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"url": [str(self)]}}


def check(url: str) -> str:
    """What can be said of a URL without asking anybody. Raises BadAddress."""
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise BadAddress(f"A URL has at most {LONGEST_URL} characters, and no spaces.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as wrong:
        raise BadAddress("This is not a URL.") from wrong
    if parts.scheme not in _schemes():
        raise BadAddress(f"A webhook's URL begins with {' or '.join(f'{each}://' for each in _schemes())}.")
    if not host or parts.fragment or "@" in parts.netloc:
        raise BadAddress("A webhook's URL names a host, and has neither a user nor a fragment.")
    if port is not None and (port == 0 or port in REFUSED_PORTS):
        raise BadAddress(f"Port {port} is not open to webhooks.")
    literal = _literal(host)
    if literal is not None:
        judge(host, [str(literal)])
    return url


def _schemes() -> tuple[str, ...]:
    """Unencrypted only where it stays in the house."""
    return ("https", "http") if settings.WEBHOOK_PRIVATE_NETWORKS or settings.DEBUG else ("https",)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def judge(host: str, addresses: list[str]) -> None:
    """Raises BadAddress if any of these may not be connected to: a name that mixes them is trying something."""
    own = _own()
    for text in addresses:
        address = ip_address(text.partition("%")[0])
        if any(address in ip_network(allowed, strict=False) for allowed in settings.WEBHOOK_PRIVATE_NETWORKS):
            continue
        kind = settings.ADDRESS_REFUSED(address) or ("an address of this machine" if str(address) in own else None)
        if kind:
            called = f"{host} is" if host == text else f"{host} is {text},"
            raise BadAddress(f"{called} {kind}. Webhooks go to public addresses only.")


def _own() -> set[str]:
    return {each.address.partition("%")[0] for found in psutil.net_if_addrs().values() for each in found}
