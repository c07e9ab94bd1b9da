"""What programs say to their way out: read in one way or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.daemon.asked import Ask, BadAsk, read_http, read_socks


def head(first: str, *headers: str) -> bytes:
    return "\r\n".join([first, *headers, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [("a.example:443", "a.example", 443), ("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:8080", "::1", 8080)],
)
def test_connect_asks_for_a_tunnel(target, host, port):
    assert read_http(head(f"CONNECT {target} HTTP/1.1", "Host: whatever")) == Ask(host, port)


@pytest.mark.parametrize(
    "target",
    [
        "a.example",
        "a.example:",
        "a.example:0",
        "a.example:65536",
        "a:b:80",
        "user@a.example:80",
        "a/b:80",
        "[::1:80",
        ":80",
    ],
)
def test_a_tunnel_to_nowhere_in_particular_is_refused(target):
    with pytest.raises(BadAsk):
        read_http(head(f"CONNECT {target} HTTP/1.1"))


def test_a_plain_request_is_written_anew():
    asked = read_http(
        head(
            "POST http://a.example:8080/path?q=1#part HTTP/1.0",
            "Host: b.example",
            "X-Own: 1",
            "Connection: keep-alive, X-Hop",
            "X-Hop: secret",
            "Proxy-Authorization: Basic x",
            "Content-Length: 3",
        )
    )

    assert (asked.host, asked.port, asked.is_tunnel, asked.body_bytes) == ("a.example", 8080, False, 3)
    assert asked.head == (
        b"POST /path?q=1 HTTP/1.1\r\nHost: a.example:8080\r\nX-Own: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("http://a.example", b"GET / HTTP/1.1"),
        ("http://a.example/", b"GET / HTTP/1.1"),
        ("HTTP://a.example?x", b"GET /?x HTTP/1.1"),
    ],
)
def test_an_address_without_a_path_gets_one(target, line):
    asked = read_http(head(f"GET {target} HTTP/1.1"))

    assert asked.head.split(b"\r\n")[0] == line
    assert asked.port == 80


@pytest.mark.parametrize(
    "first",
    [
        "",
        "GET / HTTP/1.1",
        "GET https://a.example/ HTTP/1.1",
        "GET ftp://a.example/ HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET  http://a.example/ HTTP/1.1",
        "GET http://a.example/ HTTP/2",
        "GET http://a.example/",
        "GET http://a.example/ HTTP/1.1 x",
        "GET http://u:p@a.example/ HTTP/1.1",
        "GET http://a.example\\@b/ HTTP/1.1",
        "G(T http://a.example/ HTTP/1.1",
        "\0",
    ],
)
def test_a_first_line_of_another_kind_is_refused(first):
    with pytest.raises(BadAsk):
        read_http(head(first))


@pytest.mark.parametrize(
    "header",
    [" folded: x", "no colon", "Space : x", "Bare: a\nInjected: b", "Bare: a\rInjected: b", "Nul: \0", ": x"],
)
def test_a_header_that_could_mean_two_things_is_refused(header):
    with pytest.raises(BadAsk, match="header"):
        read_http(head("GET http://a.example/ HTTP/1.1", header))


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 1", "Content-Length: 2"),
        ("Content-Length: -1",),
        ("Content-Length: 1, 1",),
        ("Content-Length: x",),
        ("Content-Length: 1" + "0" * 15,),
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ],
)
def test_a_body_whose_end_is_not_sure_is_refused(headers):
    with pytest.raises(BadAsk):
        read_http(head("POST http://a.example/ HTTP/1.1", *headers))


@given(rubbish=st.binary(max_size=200))
def test_rubbish_is_refused_with_a_sentence_or_understood_whole(rubbish):
    assert understood(rubbish + b"\r\n\r\n")


def understood(text: bytes) -> str:
    """The host asked for, or the sentence of the refusal."""
    try:
        return read_http(text).host
    except BadAsk as refused:
        return str(refused)


@given(path=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=50))
def test_what_is_forwarded_is_one_request(path):
    asked = read_http(head(f"GET http://a.example/{path} HTTP/1.1"))

    assert asked.head.count(b"\r\n\r\n") == 1
    assert asked.head.startswith(b"GET /" + path.encode())


def test_socks_names_its_place_in_three_ways():
    assert read_socks(1, bytes([127, 0, 0, 1]), b"\0\x50") == Ask("127.0.0.1", 80)
    assert read_socks(3, b"a.example", b"\x01\xbb") == Ask("a.example", 443)
    assert read_socks(4, bytes(15) + b"\1", b"\0\x50") == Ask("::1", 80)


@pytest.mark.parametrize("name", [b"", b"a b", b"a\0", b"\xff"])
def test_socks_refuses_a_name_that_is_none(name):
    with pytest.raises(BadAsk):
        read_socks(3, name, b"\0\x50")
