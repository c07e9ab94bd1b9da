import base64

import pytest

from sandboxes import programs


def refusal(**fields):
    with pytest.raises(programs.Refused) as refused:
        programs.check(**{"code": "pass"} | fields)
    return refused.value.errors


def test_e9_code_with_a_time_out_of_60_is_fine_and_empty_code_is_not():
    assert programs.check(code="pass", timeout_seconds=60).timeout_seconds == 60
    assert refusal(code="") == {"code": ["Give some code to run."]}


@pytest.mark.parametrize("code", ["", "  \n\t", None, 5, b"pass", "a\0b", "\ud800"])
def test_code_must_be_some_text(code):
    assert list(refusal(code=code)) == ["code"]


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 3601, float("nan"), float("inf"), True, "60", None])
def test_the_time_out_is_a_number_from_1_to_3600(seconds):
    assert list(refusal(timeout_seconds=seconds)) == ["timeout_seconds"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "a/", "a\0b", "\ud800", "x" * 2000, "y" * 300]
)
def test_paths_stay_inside_the_working_directory(path):
    assert list(refusal(files={path: "x"})) == ["files"]


def test_paths_are_written_in_one_way():
    program = programs.check(
        code="pass", files={"./a//b.txt": "x", "c": {"base64": base64.b64encode(b"\xff").decode()}}
    )

    assert program.files == {"a/b.txt": b"x", "c": b"\xff"}


def test_two_names_of_one_file_are_refused():
    assert refusal(files={"a": "1", "./a": "2"}) == {"files": ["Two paths name the same file."]}


def test_a_file_cannot_be_a_folder_too():
    assert refusal(files={"a": "1", "a/b": "2"}) == {"files": ["'a' is both a file and a folder."]}


@pytest.mark.parametrize("content", [5, None, [], {"base64": "***"}, {"base64": 1}, {"text": "x"}, {}])
def test_contents_are_text_or_base64(content):
    assert list(refusal(files={"a": content})) == ["files"]


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A=B", "Ä", "A B", "A\n"])
def test_names_of_variables_are_plain(name):
    assert list(refusal(env={name: "x"})) == ["env"]


def test_every_fault_is_named_at_once():
    assert set(refusal(code="", env={"1": "x"}, timeout_seconds=0, args="x", metadata=[])) == {
        "code",
        "env",
        "timeout_seconds",
        "args",
        "metadata",
    }


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"code": "x" * (programs.CODE_BYTES + 1)}, programs.CODE_BYTES),
        ({"code": "é" * (programs.CODE_BYTES // 2 + 1)}, programs.CODE_BYTES),
        ({"input": "x" * (programs.INPUT_BYTES + 1)}, programs.INPUT_BYTES),
        ({"env": {"A": "x" * programs.ENV_BYTES}}, programs.ENV_BYTES),
        ({"args": ["x" * (programs.ARGS_BYTES + 1)]}, programs.ARGS_BYTES),
        ({"args": [""] * 1001}, 1000),
        ({"metadata": {"a": "x" * programs.METADATA_BYTES}}, programs.METADATA_BYTES),
        ({"files": {"a": b"x" * (programs.FILES_BYTES + 1)}}, programs.FILES_BYTES),
        ({"files": {str(number): "" for number in range(1001)}}, 1000),
    ],
)
def test_what_is_too_large_says_how_large_it_may_be(fields, limit):
    with pytest.raises(programs.TooLarge) as refused:
        programs.check(**{"code": "pass"} | fields)

    assert refused.value.extras["limit"] == limit


def test_exactly_the_largest_code_is_taken():
    assert len(programs.check(code="x" * programs.CODE_BYTES).code) == programs.CODE_BYTES


def test_input_keeps_every_byte():
    assert programs.check(code="pass", input="a\0é").stdin == "a\0é".encode()
    assert programs.check(code="pass", input=None).stdin is None
    assert programs.check(code="pass", input="").stdin == b""
