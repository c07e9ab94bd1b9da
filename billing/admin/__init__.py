"""Django's admin of billing: people and accounts, and money and what was told of it to look at."""

from billing.admin import customers, money, told

__all__ = ["customers", "money", "told"]
