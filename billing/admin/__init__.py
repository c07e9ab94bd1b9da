"""Django's admin of billing: people and accounts, and money to look at."""

from billing.admin import customers, money

__all__ = ["customers", "money"]
