"""`manage.py close_periods`: what is over and not invoiced becomes invoices, of every account. Safe to repeat."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing import closing


class Command(BaseCommand):
    help = "Invoice what is over and not invoiced yet, of every account. Safe to run twice and after a crash."

    def handle(self, *args: Any, **options: Any) -> None:
        made = closing.close_all(now=timezone.now())
        for invoice in made:
            self.stdout.write(f"{invoice.number}  {invoice.state}  {invoice.money(invoice.total)} {invoice.currency}")
        self.stdout.write(f"{len(made)} periods closed.")
