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


def test_usage_stands_where_it_was_told():
    parts = [("stdout", b"a"), ("usage", b""), ("stderr", b"b"), ("usage", b"")]
    samples = [[5, 250, 100, 9_000, 4096], [7, 500, 200, 9_500, 4096]]

    found = list(
        frames.replay(
            attempt=1,
            has_started=True,
            has_run=True,
            chunks=[chunk_of(parts)],
            samples=samples,
            end={"state": "failed"},
        )
    )

    assert [(frame.number, frame.event) for frame in found[3:]] == [
        (4, "stdout"),
        (5, "usage"),
        (6, "stderr"),
        (7, "usage"),
        (8, "end"),
    ]
    assert found[4].value == {"at_ms": 250, "cpu_ms": 100, "memory_bytes": 9_000, "disk_bytes": 4096}


def test_usage_without_any_output_is_replayed_too():
    found = frames.replay(
        attempt=1, has_started=True, has_run=True, chunks=[], samples=[[4, 250, 1, 2, 3], [9, 500, 1, 2, 3]], end={}
    )

    assert [frame.number for frame in found] == [1, 2, 3, 4, 9, 10]


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr", "usage"]), st.binary(min_size=1, max_size=9)), max_size=12)
)
def test_frames_of_usage_take_a_number_and_no_bytes(parts):
    parts = [(stream, b"" if stream == "usage" else content) for stream, content in parts]

    found = {number: (stream, content) for number, stream, _, content in frames.cut(chunk_of(parts))}

    assert found == {4 + at: part for at, part in enumerate(parts) if part[0] != "usage"}


@given(st.integers(min_value=0, max_value=15_000))
def test_of_many_samples_a_few_are_kept_evenly_with_the_first_and_the_last(count):
    samples = frames.Samples()
    for number in range(count):
        samples.add((number, number, 0, 0, 0))

    kept = [number for number, *_ in samples.all()]

    assert len(kept) <= frames.MOST_SAMPLES
    assert len(kept) >= min(count, frames.MOST_SAMPLES // 2)
    assert kept[:1] + kept[-1:] == [0, count - 1] * (count > 0)
    assert len({later - earlier for earlier, later in zip(kept[:-1], kept[1:-1], strict=False)}) <= 1
