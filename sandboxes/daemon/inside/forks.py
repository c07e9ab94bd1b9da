"""What modules ask to have done after a fork is done once, in the program, not in each process on the way to it.

Imported before every module that asks (random, threading): their hooks cost a fork more than the fork itself.
"""

import os

_asked: list[dict] = []
_register = os.register_at_fork


def _note(**hooks) -> None:
    _asked.append(hooks)


os.register_at_fork = _note


def run_hooks() -> None:
    for hooks in _asked:
        hooks.get("after_in_child", int)()


def catch_up() -> None:
    """In the program: what its forks left undone, and from now on as always."""
    os.register_at_fork = _register
    for hooks in _asked:
        _register(**hooks)
    run_hooks()
