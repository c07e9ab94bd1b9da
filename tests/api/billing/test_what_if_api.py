from datetime import timedelta

import pytest
from django.utils import timezone

from tests import ledger_cast

DEAR = {"meter": "mcp_call", "shape": "per_unit", "credits": "3"}


def test_staff_ask_what_last_month_would_have_cost(alice, stella):
    ledger_cast.use(alice.account, "mcp_call", 10, now=timezone.now().replace(day=1) - timedelta(days=1))

    found = stella.post("prices/what-if", {"prices": [DEAR]}).json()

    assert found["total"] == {"charged": "10.000000", "would_cost": "30.000000", "difference": "20.000000"}
    assert [row["meter"] for row in found["meters"]] == ["mcp_call"]
    assert [row["account"] for row in found["accounts"]] == [str(alice.account.pk)]
    assert stella.post("prices/what-if", {"prices": [DEAR], "month": "2020-01"}).json()["meters"] == []
    assert alice.post("prices/what-if", {"prices": [DEAR]}).json()["code"] == "staff_required"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prices": []},
        {"prices": [DEAR, DEAR]},
        {"prices": [{**DEAR, "credits": "-1"}]},
        {"prices": [{**DEAR, "per": "0"}]},
        {"prices": [{**DEAR, "shape": "volume"}]},
        {"prices": [{**DEAR, "tiers": [{"up_to": None, "credits": "1"}]}]},
        {"prices": [{**DEAR, "meter": "minute"}]},
        {"prices": [DEAR], "month": "2026-13"},
        {"prices": [DEAR], "account": "0198c0de-0000-7000-8000-000000000000"},
    ],
)
def test_prices_that_cannot_be_are_refused(stella, wrong):
    assert stella.post("prices/what-if", wrong).json()["code"] == "validation_error"
