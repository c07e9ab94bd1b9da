"""The rule of breaches: kernel facts first, last words second, and never for a program that ended well."""

from __future__ import annotations

import pytest

from sandboxes.daemon.breaches import Facts, recognise


def facts(**changes: object) -> Facts:
    return Facts(**{"stopped": "", "failed": True, **changes})


@pytest.mark.parametrize("stopped", ["timeout", "output"])
def test_what_the_daemon_ended_has_the_daemons_reason(stopped):
    assert recognise(facts(stopped=stopped, memory_kills=1)) == stopped


def test_a_cancelled_program_breached_nothing():
    assert recognise(facts(stopped="cancelled", memory_kills=1, stderr=b"MemoryError")) is None


@pytest.mark.parametrize(
    ("fact", "breach"),
    [
        ({"memory_kills": 1}, "memory"),
        ({"soft_memory_exceeded": True}, "memory"),
        ({"refused_forks": 3}, "processes"),
        ({"disk_is_full": True}, "disk"),
        ({"signal": 25}, "disk"),
    ],
)
def test_a_kernel_fact_names_the_breach_of_a_failure_only(fact, breach):
    assert recognise(facts(**fact)) == breach
    assert recognise(facts(**fact, failed=False)) is None


@pytest.mark.parametrize(
    ("words", "breach"),
    [
        (b"Traceback (most recent call last):\n  ...\nMemoryError", "memory"),
        (b"numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 GiB", "memory"),
        (b"FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n\n----", "memory"),
        (b"OSError: [Errno 28] No space left on device: 'x'", "disk"),
        (b"OSError: [Errno 27] File too large", "disk"),
        (b"RuntimeError: can't start new thread", "processes"),
        (b"BlockingIOError: [Errno 11] Resource temporarily unavailable", "processes"),
        (b"Error: spawn /bin/sleep EAGAIN\n" + b"    at x\n" * 14 + b"Node.js v20.20.2", "processes"),
        (b"Error: EAGAIN\n    at new Worker\n  code: 'ERR_WORKER_INIT_FAILED'\n}\n\nNode.js v20.20.2", "processes"),
        (b"RangeError: WebAssembly.Memory(): could not allocate memory\n    at x\n\nNode.js v20.20.2", "memory"),
        (b"ValueError: no\n", None),
        (b"print('about MemoryError')", None),
        (b"", None),
        (b"\xff\xfe\x00", None),
    ],
)
def test_without_a_fact_the_last_words_of_a_failure_decide(words, breach):
    assert recognise(facts(stderr=words)) == breach
    assert recognise(facts(stderr=words, failed=False)) is None


def test_words_long_before_the_end_are_not_the_last():
    assert recognise(facts(stderr=b"MemoryError\n" + b"x\n" * 100 + b"ValueError: no")) is None
