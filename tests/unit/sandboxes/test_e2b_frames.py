"""What the guest says, as the connection delivers it."""

from __future__ import annotations

import json

import pytest

from sandboxes.runtimes.e2b import frames


def heard(*pieces: str) -> list[dict]:
    lines = frames.Lines()
    return [message for piece in pieces for message in lines.take(piece)]


def test_a_line_may_come_in_any_pieces():
    line = json.dumps({"out": "stdout", "at": 0, "data": "aGk="}) + "\n"

    assert heard(*line) == heard(line) == [{"out": "stdout", "at": 0, "data": "aGk="}]


def test_several_lines_may_come_in_one_piece():
    assert heard('{"ready": {}}\n{"end": {}}\n{"out":') == [{"ready": {}}, {"end": {}}]


def test_what_a_profile_prints_before_the_first_line_is_skipped():
    assert heard("Welcome to this template!\n\n", '{"ready": {}}\n') == [{"ready": {}}]


@pytest.mark.parametrize("line", ["not json", '"text"', '{"half":'])
def test_what_is_no_line_of_a_guest_after_that_is_garbled(line):
    with pytest.raises(frames.Garbled):
        heard('{"ready": {}}\n', line + "\n")


def test_a_line_without_an_end_is_garbled():
    with pytest.raises(frames.Garbled, match="without an end"):
        heard("{" + "x" * frames.LONGEST_LINE + "y")


def test_output_is_bytes_whatever_they_are():
    assert frames.content({"data": "/wD+"}) == b"\xff\x00\xfe"


@pytest.mark.parametrize("message", [{}, {"data": 3}, {"data": "§§"}, {"data": "abc"}])
def test_output_that_is_no_base64_is_garbled(message):
    with pytest.raises(frames.Garbled):
        frames.content(message)
