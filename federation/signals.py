"""What is said inside this app where nobody may be asked to do something: nudges. Sweeps find what was not heard."""

from django.dispatch import Signal

mail_came = Signal()
"""Sent when something came into the inbox of a managed agent that reads it, with nothing else.

Receivers: federation.receivers (begins sittings).
"""
