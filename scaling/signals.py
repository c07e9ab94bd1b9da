"""What others may hear of nodes. Sent in the transaction that changes them: what is written then goes with it."""

from django.dispatch import Signal

node_status_changed = Signal()
"""Sent with `node` (as it is now), `before` (its last status) and `at`.

Receivers: ntd_site.receivers (tells the operators' webhooks of nodes that became unhealthy).
"""
