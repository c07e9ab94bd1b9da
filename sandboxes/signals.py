"""What others may hear of executions. A nudge, not the truth: the row is, and listeners also sweep."""

from django.dispatch import Signal

execution_finished = Signal()
"""Sent after commit with `execution_id` when an execution is final and settled.

Receivers: federation.receivers (advances the task that the execution belongs to).
"""
