"""An installation as it was at billing 0024, federation 0015 and sandboxes 0013: rows of what has been migrated since."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.apps.registry import Apps
from django.db import transaction
from django.utils import timezone

from tests.old_ledger import UCR, OldLedger

STATE = [
    ("billing", "0024_x402_authorizations"),
    ("federation", "0015_keep_embeddings_in_their_dimension"),
    ("sandboxes", "0013_budgets_of_executions"),
    ("scaling", "0001_nodes_groups_and_balancers"),
]
HANDLER = "def handle(task):\n    return 1\n\n\ndef on_message(message):\n    return None\n"
LOST = "0x" + "00" * 20


@transaction.atomic
def fill(models: Apps) -> None:
    books = OldLedger(models, "Acme Capital")
    _fill_ledger(books)
    _fill_usage(books)
    _fill_payments(books)
    _fill_bank(books)
    _fill_coins(books)
    _fill_webhooks(books)
    execution = _fill_sandboxes(models, books)
    _fill_federations(models, books, execution)
    now = timezone.now()
    node = models.get_model("scaling", "Node").objects.create(
        name="n1", status="healthy", last_seen_at=now, heard_at=now
    )
    models.get_model("scaling", "HealthReport").objects.create(node=node, at=now, status="healthy")
    models.get_model("scaling", "Group").objects.create(
        name="g", target_type="pool", target_id="p", min_size=1, max_size=3
    )


def _fill_ledger(books: OldLedger) -> None:
    """Grants that are open, used up and expired; a charge over two of them, one reversed; holds in every state."""
    soon = books.now + timedelta(days=30)
    books.grant(20, priority=10, expires_at=soon)
    books.grant(1_000)
    lapsed = books.grant(5, priority=90, expires_at=books.now - timedelta(days=1))
    books.take("expiry", 5, "breakage", grant=lapsed)
    books.charge(15)
    books.reverse(books.charge(30), 30)
    books.model("Budget").create(account=books.account, scope="account", period="total", limit_ucr=500 * UCR,
                                 action="block", thresholds=[50], created_at=books.now)  # fmt: skip
    books.model("LedgerAccount").filter(pk=books.wallet.pk).update(has_budgets=True)
    for state in ("active", "captured", "released", "expired"):
        books.hold(10, state)
    books.charge(7)
    books.model("BalanceWatch").create(account=books.account, threshold_ucr=UCR)


def _fill_usage(books: OldLedger) -> None:
    """Two records that share a charge, and the invoice of their period, paid."""
    book = books.model("PriceBook").create(name="old", version=1, valid_from=books.now, created_at=books.now)
    price = books.model("Price").create(book=book, meter="m", shape="per_unit", name="M", unit="m", amount_ucr=UCR)
    for key, charged, cost in (("a", books.charge(3), 1), ("b", None, 2)):
        charged = charged or books.model("UsageRecord").get(key="a").transaction
        books.model("UsageRecord").create(
            account=books.account, source="test", key=key, request_hash="", meter="m", quantity=cost, price=price,
            rated_ucr=cost * UCR, cost_ucr=cost * UCR, transaction=charged, occurred_at=books.now, billed_at=books.now,
            created_at=books.now,
        )  # fmt: skip
    start = books.now - timedelta(days=1)
    books.model("Rating").create(account=books.account, meter="m", price=price, period_start=start, quantity=3,
                                 rated_ucr=3 * UCR)  # fmt: skip
    series = books.model("InvoiceSeries").create(year=2026, last_number=1)
    invoice = books.model("Invoice").create(
        account=books.account, period_start=start, period_end=books.now + timedelta(days=1), currency="EUR",
        created_at=books.now, subtotal=40, total=40, amount_due=40, due_ucr=3 * UCR,
    )  # fmt: skip
    books.model("InvoiceLine").create(invoice=invoice, position=1, meter="m", description="M", quantity=3, unit="m",
                                      cost_ucr=3 * UCR, amount=40)  # fmt: skip
    books.model("DunningStep").create(invoice=invoice, days=0, created_at=books.now)
    books.pay(40, purpose="invoice", invoice=invoice)
    books.model("Invoice").filter(pk=invoice.pk).update(
        state="paid", series=series, sequence=1, number="2026-0001", finalized_at=books.now, paid_at=books.now
    )


def _fill_payments(books: OldLedger) -> None:
    """One of which a part went back, and one that is disputed."""
    refunded = books.pay(50)
    taken = books.take("refund", 20, "issuance", grant=refunded.grant)
    books.model("Refund").create(account=books.account, payment=refunded, amount=20, credits_ucr=20 * UCR, taken=taken,
                                 state="succeeded", key="r", request_hash="", created_at=books.now,
                                 settled_at=books.now)  # fmt: skip
    books.model("Payment").filter(pk=refunded.pk).update(refunded=20)
    books.model("PaymentEvent").create(payment=refunded, source="answer", state="succeeded", effect="applied",
                                       created_at=books.now)  # fmt: skip
    disputed = books.pay(60)
    books.model("Dispute").create(account=books.account, payment=disputed, gateway="simulated", gateway_ref="d1",
                                  amount=60, credits_ucr=60 * UCR, created_at=books.now)  # fmt: skip
    books.model("Payment").filter(pk=disputed.pk).update(disputed=60)


def _fill_bank(books: OldLedger) -> None:
    """A line that paid, and one of which a part has to go back."""
    paid = books.pay(70, gateway="bank")
    transfer = books.model("BankTransfer").create(key=str(paid.pk), request_hash="", amount=70, currency="EUR",
                                                  created_at=books.now)  # fmt: skip
    statement = books.model("BankStatement").create(name="s", digest="d", iban="DE1", new=2, created_at=books.now)
    for identity, kind, of in (("1", "payment", transfer), ("2", "return", None)):
        line = books.model("BankLine").create(statement=statement, iban="DE1", identity=identity, amount=70,
                                              currency="EUR", booked_on=books.now.date())  # fmt: skip
        match = books.model("BankMatch").create(line=line, kind=kind, amount=70 if of else 30, transfer=of,
                                                actor="Stella", created_at=books.now)  # fmt: skip
    books.model("BankReturn").create(key="b", match=match, amount=30, currency="EUR", created_at=books.now)


def _fill_coins(books: OldLedger) -> None:
    chain: dict[str, Any] = {"network": "eip155:8453"}
    quote = books.model("CoinQuote").create(reference="q", token=LOST, address=LOST, units=100, amount=1, currency="EUR",
                                            expires_at=books.now, created_at=books.now, **chain)  # fmt: skip
    books.model("CoinTransfer").create(quote=quote, tx_hash="0x1", log_index=0, block=1, sender=LOST, units=100,
                                       seen_at=books.now, **chain)  # fmt: skip
    books.model("X402Authorization").create(
        account=books.account, key="x", credits_ucr=UCR, scheme="exact", asset=LOST, pay_to=LOST, payer=LOST, nonce="0x2",
        most_units=1, units=1, valid_before=books.now, first_block=1, payload={}, created_at=books.now, **chain,
    )  # fmt: skip


def _fill_webhooks(books: OldLedger) -> None:
    books.model("GatewayWebhook").create(gateway="simulated", state="invalid", body=b"{}", received_at=books.now)
    endpoint = books.model("WebhookEndpoint").create(account=books.account, url="https://example.com", secret="s",
                                                     created_at=books.now)  # fmt: skip
    event = books.model("OutgoingEvent").create(account=books.account, type="t", created_at=books.now)
    books.model("WebhookDelivery").create(endpoint=endpoint, event=event, due_at=books.now, created_at=books.now)


def _fill_sandboxes(models: Apps, books: OldLedger) -> Any:
    make = {name: models.get_model("sandboxes", name).objects.create for name in
            ("Build", "Template", "Pool", "Sandbox", "Execution", "Attempt", "OutputChunk")}  # fmt: skip
    build = make["Build"](address="a", language="python", state="ready", size_bytes=1, finished_at=books.now)
    template = make["Template"](account=books.account, name="t", language="python", build=build, state="ready")
    pool = make["Pool"](account=books.account, name="p", template=template, size=2)
    run = {"account": books.account, "language": "python", "code": "1"}
    make["Execution"](pool=pool, template=template, **run)
    done = make["Execution"](template=template, state="succeeded", exit_code=0, attempt=1, started_at=books.now,
                             finished_at=books.now, **run)  # fmt: skip
    make["Attempt"](execution=done, number=1, outcome="finished", claimed_at=books.now, finished_at=books.now)
    make["OutputChunk"](execution=done, number=1, stdout_offset=0, stderr_offset=0, stdout_end=1, stderr_end=0,
                        journal=b"1", content=b"1")  # fmt: skip
    make["Sandbox"](account=books.account, language="python", template=template, charged_until=books.now,
                    held_until=books.now + timedelta(minutes=1), created_at=books.now,
                    expires_at=books.now + timedelta(hours=1))  # fmt: skip
    return done


def _fill_federations(models: Apps, books: OldLedger, execution: Any) -> None:
    """Agents of every runtime, tasks of which one waits for the other, and a timeout that lets nobody live."""
    make = {name: models.get_model("federation", name).objects.create for name in
            ("Federation", "TopologyVersion", "Agent", "Handler", "McpServer", "Task", "Dependency", "Attempt", "Message",
             "DeadLetter", "Event", "MemoryNamespace", "MemoryEntry")}  # fmt: skip
    one = make["Federation"](account=books.account, name="f", heartbeat_seconds=60, agent_timeout_seconds=60)
    of = {"federation": one}
    make["TopologyVersion"](version=one.topology_version, shape="mesh", members=3, epoch=0, reason="It began.",
                            created_at=books.now, **of)  # fmt: skip
    agents = [make["Agent"](name=runtime, runtime=runtime, position=position, last_heartbeat_at=books.now, **of)
              for position, runtime in enumerate(("managed", "remote", "mcp"))]  # fmt: skip
    agents[0].handler = make["Handler"](agent=agents[0], version=1, code=HANDLER)
    agents[0].save()
    make["McpServer"](agent=agents[2], url="https://example.com")
    first, second = [make["Task"](type="work", not_before=books.now, is_waiting=waits, **of) for waits in (False, True)]
    make["Dependency"](task=second, needs=first, position=0, **of)
    make["Attempt"](task=first, agent=agents[0], epoch=1, execution=execution, state="assigned", assigned_at=books.now,
                    lease_expires_at=books.now)  # fmt: skip
    make["Message"](sender=agents[1].pk, type="custom", recipients=1, created_at=books.now, **of)
    make["DeadLetter"](message={"id": "1"}, reason="full", agent=agents[1], created_at=books.now, **of)
    make["Event"](kind="draining", text="It drains.", agent=agents[1], created_at=books.now, **of)
    space = make["MemoryNamespace"](name="n", dimension=2, created_at=books.now, **of)
    make["MemoryEntry"](namespace=space, key="k", embedding=[0.0, 1.0], dimension=2, value=1, created_at=books.now,
                        updated_at=books.now)  # fmt: skip
