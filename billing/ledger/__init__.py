"""The credits ledger: the only code that writes wallets, transactions, entries, grants and holds.

spending     charge, balance            what a customer pays at once
holding      hold, capture, release     what work of unknown cost sets aside first
granting     grant, expire, overdraft   where credits come from and how they end
correcting   reverse, transfer          opposite entries; nothing is ever edited
refunding    take_back                  bought credits whose money goes back
limiting     spends that a budget refused
asking       means: what can still be spent on something, nothing set aside
refusals     the exceptions of all of them
"""

from billing.ledger.asking import Means, means
from billing.ledger.correcting import movable_ucr, reverse, transfer
from billing.ledger.granting import (
    expire_grants,
    expire_wallet,
    grant,
    open_wallet,
    set_overdraft,
)
from billing.ledger.holding import capture, expire_hold, expire_holds, hold, is_held, key_of, release
from billing.ledger.limiting import take_notes
from billing.ledger.refunding import take_back
from billing.ledger.refusals import (
    CANNOT_SPEND,
    AccountNotActive,
    AmountOutOfRange,
    BudgetExceeded,
    CreditsSpent,
    HoldEnded,
    InsufficientCredits,
    KeyReused,
    NotReversible,
    UnknownHold,
)
from billing.ledger.spending import Balance, Receipt, balance, charge, fingerprint, lock_wallet, refusal

__all__ = [
    "AccountNotActive",
    "AmountOutOfRange",
    "Balance",
    "BudgetExceeded",
    "CANNOT_SPEND",
    "CreditsSpent",
    "HoldEnded",
    "InsufficientCredits",
    "KeyReused",
    "Means",
    "NotReversible",
    "Receipt",
    "UnknownHold",
    "balance",
    "capture",
    "charge",
    "expire_grants",
    "expire_hold",
    "expire_holds",
    "expire_wallet",
    "fingerprint",
    "grant",
    "hold",
    "is_held",
    "key_of",
    "lock_wallet",
    "means",
    "movable_ucr",
    "open_wallet",
    "refusal",
    "release",
    "reverse",
    "set_overdraft",
    "take_back",
    "take_notes",
    "transfer",
]
