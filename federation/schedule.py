"""Periodic background tasks of this app; ntd_site merges them into the schedule."""

SCHEDULE: dict[str, dict[str, object]] = {}
