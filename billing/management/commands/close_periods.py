"""`manage.py close_periods`: the last period of every account that is over becomes an invoice. Safe to repeat."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing import closing


class Command(BaseCommand):
    help = "Invoice the last period that is over, of every account. Safe to run twice and after a crash."

    def handle(self, *args: Any, **options: Any) -> None:
        made = closing.close_all(now=timezone.now())
        for invoice in made:
            self.stdout.write(f"{invoice.number}  {invoice.state}  {invoice.money(invoice.total)} {invoice.currency}")
        self.stdout.write(f"{len(made)} periods closed.")
