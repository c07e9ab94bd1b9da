"""Names of artifacts are whatever a program likes; what becomes of them is ours."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes import names


@pytest.mark.parametrize("path", ["a", "d/ü", "a\nb", "\u202egpj.exe", "?#%2e", " ", "\ufeff", "🙂", "x" * 1024])
def test_a_name_of_characters_is_kept(path):
    assert names.is_addressable(path)
    assert names.readable(path) == path


@pytest.mark.parametrize(
    ("name", "readable"),
    [(b"\xff", "\ufffd"), (b"a/\xc3", "a/\ufffd"), (b"\xed\xa0\x80", "\ufffd" * 3), (b"x" * 1025, "x" * 1023 + "…")],
)
def test_any_other_is_only_readable(name, readable):
    path = os.fsdecode(name)

    assert not names.is_addressable(path)
    assert names.readable(path) == readable


@given(st.binary(min_size=1, max_size=2000).map(os.fsdecode))
def test_whatever_it_is_it_can_be_stored_and_told(path):
    assert len(names.readable(path)) <= names.LONGEST
    names.readable(path).encode()
    assert names.content_type(path).isascii()
    assert len(names.content_type(path)) <= names.LONGEST_TYPE
    assert names.download_name(path).isprintable()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("a.csv", "text/csv"),
        ("d.x/a.JSON", "application/json"),
        ("a.csv.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("data:evil/x\r\nSet-Cookie: a=b,.csv", "text/csv"),
        ("http://x/a.csv", "text/csv"),
    ],
)
def test_a_name_says_a_type_by_its_end_only(path, content_type):
    assert names.content_type(path) == content_type


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("d/a b.csv", "a b.csv"),
        ("a\n", "a_"),
        ("\u202egpj.exe", "_gpj.exe"),
        ("página", "página"),
        ("a\x1b[1m", "a_[1m"),
    ],
)
def test_a_download_has_a_name_that_is_what_it_looks_like(path, name):
    assert names.download_name(path) == name
