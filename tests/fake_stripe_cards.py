"""The part of the fake Stripe that keeps cards: customers, pages to give a card on, and what is detached again."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.fake_gateway import answer

Form = dict[str, str]
Answer = tuple[int, dict[str, Any]]


class No(Exception):
    def __init__(self, status: int, code: str, message: str, type: str = "invalid_request_error", **more: Any) -> None:
        self.answer: Answer = (status, {"error": {"type": type, "code": code, "message": message, **more}})
        super().__init__(code)


def shown(intent: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(intent)


@dataclass
class FakeCards:
    url: str = ""
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Cards it keeps, and what each pays as: one of fake_stripe.METHODS.
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    pays_as: dict[str, str] = field(default_factory=dict)

    def new_customer(self, form: Form) -> dict[str, Any]:
        id = f"cus_{len(self.customers) + 1}"
        self.customers[id] = {"id": id, "object": "customer", "metadata": {"account": form["metadata[account]"]}}
        return shown(self.customers[id])

    def open_card_page(self, form: Form) -> dict[str, Any]:
        if form["customer"] not in self.customers:
            raise No(400, "resource_missing", "No such customer.", param="customer")
        if any(name.startswith("line_items") for name in form) or form["allowed_payment_method_types[0]"] != "card":
            raise No(400, "", "You cannot buy anything in `setup` mode, and pay with a card only.")
        id = f"cs_test_{len(self.sessions) + 1}"
        self.sessions[id] = {
            "id": id, "object": "checkout.session", "mode": "setup", "status": "open",
            "payment_status": "no_payment_required", "amount_total": None, "currency": form["currency"],
            "payment_intent": None, "setup_intent": None, "customer": form["customer"], "livemode": False,
            "client_reference_id": form["client_reference_id"], "success_url": form["success_url"],
            "metadata": {"reference": form["metadata[reference]"]}, "url": f"{self.url}/pay/{id}",
            "cancel_url": form["cancel_url"],
        }  # fmt: skip
        return self.page(id)

    def give_card(self, id: str, pays_as: str = "pm_card_visa", **changes: Any) -> str:
        """The customer, on Stripe's page, gives a card that pays as one of METHODS."""
        page, card = self.sessions[id], f"pm_kept{len(self.cards) + 1}"
        if page["status"] != "open":
            return ""
        shown = {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2034, **changes}
        self.cards[card] = {
            "id": card, "object": "payment_method", "type": "card", "card": shown, "customer": page["customer"]
        }  # fmt: skip
        self.pays_as[card] = pays_as
        intent = {"id": f"seti_{card}", "object": "setup_intent", "status": "succeeded", "usage": "off_session"}
        page |= {"status": "complete", "setup_intent": {**intent, "payment_method": card}}
        self.tell_page(id, "completed")
        return card

    def card(self, id: str) -> dict[str, Any]:
        if id not in self.cards:
            raise No(404, "resource_missing", f"No such PaymentMethod: '{id}'", param="payment_method")
        return self.cards[id]

    def detach(self, id: str) -> dict[str, Any]:
        if self.card(id)["customer"] is None:
            sentence = "The payment method you provided is not attached to a customer so detachment is impossible."
            raise No(400, "", sentence)
        self.cards[id]["customer"] = None
        return shown(self.cards[id])


def card_page(
    handler: BaseHTTPRequestHandler, fake: FakeCards, page: dict[str, Any], how: str, methods: Collection[str]
) -> None:
    """Where a card is given, by a customer who may also go back."""
    if how in methods:
        fake.give_card(page["id"], how)
    if how:
        answer(handler, 303, b"", Location=page["success_url"])
        return
    buttons = {"pm_card_visa": "Save card", "pm_card_threeDSecure2Required": "Save a card whose bank asks"}
    shown = "".join(
        f'<button name="how" value="{value}">{label}</button>'
        for value, label in {**buttons, "back": "Go back"}.items()
    )
    text = f'<!doctype html><title>Stripe</title><h1>A card</h1><form method="post">{shown}</form>'
    answer(handler, 200, text.encode(), Content_Type="text/html")
