"""Where webhooks may go, and that what a name says later changes nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from billing.outgoing import addresses, wire
from tests.fake_receiver import receiving


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/hook?account=1",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/hook",
        "https://bücher.example/hook",
    ],
)
def test_public_addresses_are_good(url: str) -> None:
    assert addresses.check(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.com/hook", "begins with https://"),
        ("ftp://example.com/hook", "begins with https://"),
        ("javascript:alert(1)", "begins with https://"),
        ("https:///hook", "names a host"),
        ("https://user:pass@example.com/", "neither a user"),
        ("https://example.com/#part", "nor a fragment"),
        ("https://example.com:25/", "Port 25"),
        ("https://example.com:99999/", "not a URL"),
        ("https://exa mple.com/", "no spaces"),
        ("https://example.com/\n", "no spaces"),
        (f"https://example.com/{'x' * 2000}", "at most 2000"),
        ("https://127.0.0.1/", "a loopback address"),
        ("https://10.0.0.5/", "a private address"),
        ("https://169.254.169.254/latest/meta-data", "a link-local address"),
        ("https://[::1]/", "a loopback address"),
        ("https://[::ffff:127.0.0.1]/", "a loopback address"),
        ("https://[64:ff9b::7f00:1]/", "a loopback address"),
        ("https://0.0.0.0/", "an unspecified address"),
    ],
)
def test_other_addresses_are_refused_with_a_reason(url: str, why: str) -> None:
    with pytest.raises(addresses.BadAddress, match=why):
        addresses.check(url)


def test_private_networks_are_open_where_the_operator_says_so(settings: object) -> None:
    settings.WEBHOOK_PRIVATE_NETWORKS = ["10.1.0.0/16"]  # type: ignore[attr-defined]

    assert addresses.check("http://10.1.2.3/hook")
    with pytest.raises(addresses.BadAddress, match="a private address"):
        addresses.check("http://10.2.2.3/hook")


def test_an_address_of_this_machine_is_refused_even_if_it_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_own", lambda: {"93.184.216.34"})

    with pytest.raises(addresses.BadAddress, match="an address of this machine"):
        addresses.judge("example.com", ["93.184.216.34"])


def send(url: str) -> wire.Answer:
    return asyncio.run(wire.send(url, body=b"{}", headers={}, deadline=1.0))


def names(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """Every name is these addresses from now on."""
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]
    monkeypatch.setattr(wire, "_look_up", lambda host, port: places)


@pytest.mark.parametrize("found", [("127.0.0.1",), ("10.0.0.1",), ("93.184.216.34", "127.0.0.1"), ("169.254.169.254",)])
def test_a_name_with_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...]
) -> None:
    names(monkeypatch, *found)
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        answer = send(f"https://inside.example:{port}/ok")

    assert answer.status is None
    assert "Webhooks go to public addresses only." in answer.error
    assert receiver.got == []


def test_the_connection_goes_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    """The name is not asked again, and the server still hears the name it was called by."""
    settings.WEBHOOK_PRIVATE_NETWORKS = ["127.0.0.0/8"]  # type: ignore[attr-defined]
    with receiving() as receiver:
        names(monkeypatch, "127.0.0.1")
        port = receiver.url.rpartition(":")[2]
        answer = send(f"http://pinned.example:{port}/ok?a=b")

    assert answer.status == 200
    assert receiver.got[0].headers["host"] == f"pinned.example:{port}"
    assert receiver.got[0].path == "/ok?a=b"


def test_a_name_that_is_nothing_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(host: str, port: int) -> list[object]:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(wire, "_look_up", nothing)

    assert send("https://nowhere.example/").error == "The name could not be resolved: Name or service not known"


def test_a_name_server_that_is_slow_costs_no_more_than_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    released = threading.Event()
    monkeypatch.setattr(wire, "_look_up", lambda host, port: released.wait(5) and [])
    answer = asyncio.run(wire.send("https://slow.example/", body=b"", headers={}, deadline=0.1))
    released.set()

    assert answer.error == "No answer within 0.1 seconds."


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    settings.WEBHOOK_PRIVATE_NETWORKS = ["127.0.0.0/8"]  # type: ignore[attr-defined]
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with receiving() as receiver:
        assert send(f"{receiver.url}/ok").status == 200
