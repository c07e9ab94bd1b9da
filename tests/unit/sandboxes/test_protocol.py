"""Frames survive the way, and what is no frame is refused before it is believed."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.daemon import protocol
from sandboxes.daemon.protocol import BrokenFrame, Kind


@given(st.dictionaries(st.text().filter(lambda key: key != "sizes"), st.text()), st.lists(st.binary(max_size=200)))
def test_a_body_survives_the_way(fields, blobs):
    assert protocol.unpack_body(protocol.pack_body(fields, blobs)) == (fields, blobs)


@given(st.binary(max_size=200))
def test_random_bytes_are_a_broken_frame_or_nothing_worse(body):
    try:
        protocol.unpack_body(body)
    except BrokenFrame:
        return


@pytest.mark.parametrize("sizes", [[-1], [3], [10**9], ["1"], [None], "ab", 5])
def test_sizes_that_do_not_add_up_are_refused(sizes):
    body = protocol.pack_body({}, [b"ab"]).replace(
        b"[2]", str(sizes).replace("'", '"').replace("None", "null").encode()
    )
    length = protocol.LENGTH.pack(len(body) - 4 - 2)

    with pytest.raises(BrokenFrame):
        protocol.unpack_body(length + body[4:])


def test_frames_come_one_after_the_other():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        protocol.send(ours, Kind.OUTPUT, {"stream": "stdout"}, [b"\xff\0"])
        protocol.send(ours, Kind.ENDED, {})

        assert protocol.receive(theirs) == (Kind.OUTPUT, {"stream": "stdout"}, [b"\xff\0"])
        assert protocol.receive(theirs) == (Kind.ENDED, {}, [])


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\xff\xff\xff\xff\x01", b"\0\0\0\x08\x63" + protocol.pack_body({})])
def test_a_half_oversized_or_unknown_frame_is_broken(sent):
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(sent)
        with pytest.raises(BrokenFrame):
            protocol.receive(theirs)
