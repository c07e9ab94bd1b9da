"""E-mail to the owners of an account."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.urls import reverse

from billing.models import Account, Role


def tell(account: Account, subject: str, text: str, *, page: tuple[object, ...]) -> None:
    """Send it after commit, with the address of a page of the account; a mail that fails undoes nothing.

    `page` is the page's name and what comes after the account in its address.
    """
    owners = account.memberships.filter(role=Role.OWNER, user__is_active=True)
    addresses = list(owners.order_by("user__email").values_list("user__email", flat=True))
    if not addresses:
        return
    name, *rest = page
    link = settings.BASE_URL + reverse(str(name), args=[account, *rest])
    mail = (f"{subject}: {account.name}", f"{text}\n\n{link}\n", None, addresses)
    transaction.on_commit(lambda: send_mail(*mail), robust=True)
