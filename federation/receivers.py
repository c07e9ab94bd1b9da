"""An execution finished: its task goes on. Mail came: its reader sits down to it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from federation import tasks


def execution_finished(execution_id: UUID | str, agent: str | None = None, **_: Any) -> None:
    if agent == "":
        return  # Nobody's agent asked for it: no task waits.
    tasks.advance.delay(execution_id=str(execution_id))


def mail_came(**_: Any) -> None:
    tasks.read_mail.delay_on_commit()
