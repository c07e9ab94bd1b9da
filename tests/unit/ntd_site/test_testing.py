"""When a test run takes a process for each core."""

import pytest

from ntd_site import testing


@pytest.mark.parametrize(
    ("arguments", "large"),
    [
        ([], True),
        (["-x", "--durations=5"], True),
        (["tests/integration", "tests/api"], True),
        (["tests/unit/test_house.py"], False),
        (["tests/api", "tests/unit/test_house.py::test_one"], False),
        (["-n", "4"], False),
        (["-n0"], False),
        (["--collect-only", "-q"], False),
        (["--pdb"], False),
    ],
)
def test_folders_are_worth_a_process_for_each_core(arguments, large):
    assert testing.is_large(arguments) is large
