"""What a sitting takes, and what became of each of its messages."""

import json

import pytest

from federation import mail, workloads
from federation.mail import Fate, Outcome

IDS = ["a", "b", "c"]


def told(*lines):
    return b"\n".join(json.dumps(line).encode() for line in lines)


def fates(said, *, error="It fell over.", ran=True, is_lost=False):
    found = mail.judge(IDS, said, error=error, ran=ran, is_lost=is_lost)
    return "".join(found[each].fate[0] for each in IDS)


A_DONE = ({"begin": "a"}, {"id": "a", "reply": 1})
CASES = [
    (told(*A_DONE, {"begin": "b"}, {"id": "b", "error": "no"}, {"begin": "c"}, {"id": "c", "reply": None}), "dfd"),
    (told(*A_DONE, {"begin": "b"}), "dfu"),  # the second ended the program
    (told(*A_DONE), "duu"),  # no time for more
    (told({"begin": "a"}), "fuu"),
    (b"", "fff"),  # it fell over before the first
    (None, "fff"),
    (told({"begin": "x"}, {"id": "y", "reply": 1}), "fff"),  # forged
    (told(*A_DONE) + b'\n{"id": "b", "re', "duu"),  # cut off
    (b"[" * 9000 + b"\n[]\n7\n{}\n\xff\n" + told(*A_DONE), "duu"),
]


@pytest.mark.parametrize(("said", "expected"), CASES)
def test_each_message_is_judged_by_what_was_said_of_it(said, expected):
    assert fates(said) == expected


def test_what_never_ran_was_not_looked_at_and_what_a_lost_sandbox_looked_at_is_not_known():
    assert fates(None, ran=False) == "uuu"
    assert fates(told(*A_DONE), is_lost=True) == "dff"


def test_a_failure_says_what_the_message_or_the_program_said():
    said = told({"begin": "a"}, {"id": "a", "error": "no"}, {"begin": "b"})

    found = mail.judge(IDS, said, error="It ended with exit code 7.", ran=True, is_lost=False)

    assert found == {
        "a": Outcome(Fate.FAILED, error="no"),
        "b": Outcome(Fate.FAILED, error="It ended with exit code 7."),
        "c": Outcome(Fate.UNTOUCHED),
    }


@pytest.mark.parametrize(
    ("sizes", "expected"), [([], 0), ([1], 1), ([mail.MOST_BYTES * 2], 1), ([5] * 7, 7), ([mail.MOST_BYTES, 1], 1)]
)
def test_a_sitting_takes_what_fits_and_the_first_at_least(sizes, expected):
    assert mail.fitting(sizes) == expected


HANDLERS = [
    ("def on_message(message):\n    pass\n", "", True),
    ("async def on_message(message, more=1):\n    pass\n", "", True),
    ("def handle(payload):\n    def on_message(message):\n        pass\n", "", False),
    ("on_message = 7\n", "", False),
    (
        "def handle(p):\n    pass\n\n\ndef on_message():\n    pass\n",
        "`on_message` takes one argument, the message, line 5.",
        True,
    ),
]


@pytest.mark.parametrize(("code", "fault", "reads"), HANDLERS)
def test_a_handler_reads_messages_when_it_defines_what_happens_with_one(code, fault, reads):
    assert workloads.handler_fault(code) == fault
    assert workloads.reads_messages(code) is reads
