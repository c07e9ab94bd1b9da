"""Why the ledger says no. Each carries the API's code; nothing is written when one is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from billing import amounts

if TYPE_CHECKING:
    from billing.models import Budget


class InsufficientCredits(Exception):
    """Raised when the account cannot cover the amount."""

    code = "insufficient_credits"

    def __init__(self, needed_ucr: int, available_ucr: int) -> None:
        self.needed_ucr = needed_ucr
        # Below zero after a refund of credits that had been spent; there is nothing to spend then.
        self.available_ucr = max(0, available_ucr)
        need, have = amounts.plain(needed_ucr), amounts.plain(self.available_ucr)
        super().__init__(f"Insufficient credits: need {need}, have {have}")

    @property
    def extras(self) -> dict[str, object]:
        return {
            "needed": amounts.six_places(self.needed_ucr),
            "available": amounts.six_places(self.available_ucr),
        }


class AccountNotActive(Exception):
    """Raised when a suspended or closed account would spend."""

    code = "conflict"

    def __init__(self, status: str, sentence: str = "") -> None:
        self.status = status
        usual = f"This account is {status} and cannot spend credits. Ask staff to make it active again."
        super().__init__(sentence or usual)

    @property
    def extras(self) -> dict[str, object]:
        return {"state": self.status}


class BudgetExceeded(Exception):
    """Raised when a budget that blocks leaves too little for the amount."""

    code = "budget_exceeded"

    def __init__(self, budget: Budget, needed_ucr: int, spent_ucr: int, held_ucr: int) -> None:
        self.budget = budget
        self.left_ucr = max(0, budget.limit_ucr - spent_ucr - held_ucr)
        self._needed_ucr = needed_ucr
        need, left = amounts.plain(needed_ucr), amounts.plain(self.left_ucr)
        super().__init__(
            f"The budget for {budget} of {amounts.plain(budget.limit_ucr)} credits does not allow it: "
            f"need {need}, left {left}. Raise the budget, or wait for its next period."
        )

    @property
    def extras(self) -> dict[str, object]:
        return {
            "budget": str(self.budget.pk),
            "limit": amounts.six_places(self.budget.limit_ucr),
            "needed": amounts.six_places(self._needed_ucr),
            "available": amounts.six_places(self.left_ucr),
        }


class KeyReused(Exception):
    """Raised when a key is used again for something else."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(f"The key {key!r} was used before for something else. Use a new key.")


class AmountOutOfRange(Exception):
    """Raised for an amount that is not above zero or beyond what one request may move."""

    code = "validation_error"

    def __init__(self, amount_ucr: int, sentence: str = "") -> None:
        text = sentence or f"An amount must be more than 0 and at most {amounts.MAX_CREDITS} credits."
        super().__init__(text)

    @property
    def extras(self) -> dict[str, object]:
        return {"errors": {"amount": [str(self)]}}


class UnknownHold(Exception):
    """Raised when no hold has the key."""

    code = "not_found"

    def __init__(self) -> None:
        super().__init__("There is no such hold.")


class HoldEnded(Exception):
    """Raised when a hold was captured, released or expired before."""

    code = "conflict"

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"This hold is {state} and cannot be used again.")

    @property
    def extras(self) -> dict[str, object]:
        return {"state": self.state}


class CreditsSpent(Exception):
    """Raised when fewer credits are unspent than would be taken back."""

    code = "conflict"

    def __init__(self, needed_ucr: int, unspent_ucr: int) -> None:
        self.unspent_ucr = unspent_ucr
        need, have = amounts.plain(needed_ucr), amounts.plain(unspent_ucr)
        super().__init__(
            f"{need} credits would be taken back, and {have} of them are still unspent and not on hold. "
            "Refund less, or ask staff to allow a debt."
        )

    @property
    def extras(self) -> dict[str, object]:
        return {"state": "spent", "unspent": amounts.six_places(self.unspent_ucr)}


class NotReversible(Exception):
    """Raised when a transaction cannot be undone by an opposite one."""

    code = "conflict"


# Why an account cannot spend now, and may later: credits, its status, a budget.
CANNOT_SPEND = (InsufficientCredits, AccountNotActive, BudgetExceeded)


def check_amount(amount_ucr: int) -> None:
    if not 0 < amount_ucr <= amounts.MAX_UCR:
        raise AmountOutOfRange(amount_ucr)
