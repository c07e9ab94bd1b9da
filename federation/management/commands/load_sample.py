"""`manage.py load_sample [--account SLUG]`: two federations that backtest real strategies over real prices."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from billing import accounts
from billing.models import Account
from federation import showcase


class Command(BaseCommand):
    help = "Makes the sample federations of an account and gives them their backtests. Repeating it adds nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="slug of the account (default: demo, which is made if it is missing)")

    def handle(self, *args: Any, **options: Any) -> None:
        account = self._account(options["account"])
        made = showcase.load(account=account, now=timezone.now())
        if not made:
            self.stdout.write(f"{account} has the sample already.")
        for federation in made:
            tasks, agents = federation.tasks.count(), federation.agents.count()
            self.stdout.write(f"{account}: made {federation} with {agents} agents and {tasks} backtests.")

    def _account(self, slug: str | None) -> Account:
        account = Account.objects.filter(slug=slug or "demo").first()
        if account is not None:
            return account
        if slug:
            raise CommandError(f"There is no account {slug!r}.")
        return accounts.open_account(name="Demo")
