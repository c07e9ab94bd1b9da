"""What others may hear of executions. A nudge, not the truth: the row is, and listeners also sweep."""

from django.dispatch import Signal

execution_finished = Signal()
"""Sent after commit when an execution is final and settled, with `execution_id` and `agent` (who asked for it;
"" when it was no agent, so that those who only care for agents can stop there).

Receivers: federation.receivers (advances the task that the execution belongs to).
"""
