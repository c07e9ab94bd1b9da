import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from sandboxes import frames

pieces = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(min_size=1, max_size=9)), max_size=12)


def chunk_of(parts, *, number=4, stdout_offset=0, stderr_offset=0):
    journal = " ".join(frames.note(stream, len(content)) for stream, content in parts)
    return frames.Chunk(number, stdout_offset, stderr_offset, journal, b"".join(content for _, content in parts))


def replayed(chunks, attempt=1):
    return list(
        frames.replay(attempt=attempt, has_started=True, has_run=True, chunks=chunks, end={"state": "succeeded"})
    )


def test_a_frame_is_written_as_an_event_with_its_number():
    frame = frames.output_frame(number=4, stream="stdout", offset=0, content="né\n".encode())

    assert frame.encode().decode() == 'id: 4\nevent: stdout\ndata: {"stream":"stdout","offset":0,"text":"né\\n"}\n\n'


def test_bytes_that_are_no_utf8_travel_as_base64():
    frame = frames.output_frame(number=4, stream="stderr", offset=7, content=b"\xff\xfe")

    assert frame.value == {"stream": "stderr", "offset": 7, "base64": base64.b64encode(b"\xff\xfe").decode()}


def test_a_silent_execution_is_three_states_and_an_end():
    assert [(frame.number, frame.event) for frame in replayed([])] == [
        (1, "state"),
        (2, "state"),
        (3, "state"),
        (4, "end"),
    ]


def test_one_cancelled_in_the_queue_is_a_state_and_an_end():
    found = list(frames.replay(attempt=1, has_started=False, has_run=False, chunks=[], end={}))

    assert [(frame.number, frame.event) for frame in found] == [(1, "state"), (2, "end")]


def test_a_second_attempt_counts_far_above_the_first():
    assert [frame.number for frame in replayed([], attempt=2)] == [1_000_001, 1_000_002, 1_000_003, 1_000_004]


@given(pieces)
def test_what_is_cut_from_a_chunk_is_what_went_in(parts):
    found = [(stream, content) for _, stream, _, content in frames.cut(chunk_of(parts))]

    assert found == parts


@given(pieces)
def test_offsets_of_each_stream_follow_each_other(parts):
    for stream in ("stdout", "stderr"):
        at = 0
        for offset, content in frames.of_stream([chunk_of(parts)], stream):
            assert offset == at
            at += len(content)


@given(pieces, st.integers(min_value=0, max_value=20))
def test_a_resume_anywhere_says_the_same_bytes(parts, seen):
    whole = b"".join(frame.encode() for frame in replayed([chunk_of(parts)]))
    first = b"".join(frame.encode() for frame in replayed([chunk_of(parts)]) if frame.number <= seen)
    rest = b"".join(frame.encode() for frame in replayed([chunk_of(parts)]) if frame.number > seen)

    assert first + rest == whole


@given(pieces, pieces)
def test_it_does_not_matter_where_the_chunks_are_split(left, right):
    ends = {"stdout": 0, "stderr": 0}
    for stream, content in left:
        ends[stream] += len(content)
    second = chunk_of(right, number=4 + len(left), stdout_offset=ends["stdout"], stderr_offset=ends["stderr"])

    assert replayed([chunk_of(left), second]) == replayed([chunk_of(left + right)])


def test_no_text_can_end_a_frame_early():
    frame = frames.output_frame(number=4, stream="stdout", offset=0, content=b"a\n\nevent: end\ndata: {}\n\n")

    assert frame.encode().count(b"\n\n") == 1
    assert json.loads(frame.encode().decode().split("data: ", 1)[1])["text"].startswith("a\n\n")
