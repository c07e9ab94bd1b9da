"""The settings of the specification, as the staff page shows them: value, where it came from, what it does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from sandboxes import engine
from sandboxes.runtimes import E2B


@dataclass(frozen=True)
class Setting:
    variable: str
    attribute: str
    meaning: str
    is_secret: bool = False
    empty: str = "not set"
    # What is known of it now, beside the value.
    note: Callable[[], str] = lambda: ""

    @property
    def value(self) -> str:
        """As text for people: secrets masked, passwords taken out of addresses."""
        value = getattr(settings, self.attribute)
        if self.is_secret:
            return "set" if value else "not set"
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, list):
            value = ", ".join(value)
        return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:•••@", str(value)) or self.empty

    @property
    def source(self) -> str:
        return "environment" if os.environ.get(self.variable) else "default"


def _e2b_state() -> str:
    """Whether the key works, as far as E2B was asked lately."""
    if not settings.E2B_API_KEY:
        return ""
    return " ".join(engine.reasons(E2B)) or "It works."


SETTINGS = {
    "Fleet": (
        Setting("NTD_TOPOLOGY", "TOPOLOGY", "Topology of a new federation that names none."),
        Setting("NTD_MAX_SANDBOXES", "MAX_SANDBOXES", "Most sandboxes at once, and the most of a built-in pool."),
        Setting("NTD_KEPT_SANDBOXES", "KEPT_SANDBOXES", "Most long-lived sandboxes of a node."),
        Setting("NTD_MAX_AGENTS", "MAX_AGENTS", "Most agents of a federation that names no maximum."),
        Setting("NTD_AUTO_SCALE", "AUTO_SCALE", "Whether scaling groups act on their decisions."),
        Setting(
            "FEDERATION_ROLE",
            "FEDERATION_ROLE",
            "What `up` runs here: coordinator, worker, or both.",
        ),
        Setting("COORDINATOR_URL", "COORDINATOR_URL", "Address of the coordinator that a worker works for."),
        Setting(
            "NTD_SANDBOX_NETWORK",
            "SANDBOX_NETWORK",
            "Where executions that ask for a network may reach: off, outward, or a list of host:port.",
            empty="off",
        ),
        Setting("NTD_MCP_ALLOW", "MCP_ALLOW", "Private places, as host:port, where MCP servers may be.", empty="none"),
        Setting(
            "NTD_SANDBOX_ENGINE",
            "SANDBOX_ENGINE",
            "What isolates sandboxes: auto, the strongest that passes; gvisor or bubblewrap, that one or nothing.",
        ),
        Setting("RUNSC_PATH", "RUNSC_PATH", "gVisor's program; the runsc on PATH when not set."),
        Setting(
            "NTD_SANDBOX_GVISOR_SOFT_MEMORY",
            "SANDBOX_GVISOR_SOFT_MEMORY",
            "Take gVisor where no memory cgroup can be made: its memory is then only sampled.",
        ),
        Setting(
            "NTD_DEFAULT_RUNTIMES",
            "DEFAULT_RUNTIMES",
            "Where pools run that do not say it: local, e2b, or both.",
        ),
    ),
    "E2B cloud": (
        Setting(
            "E2B_API_KEY", "E2B_API_KEY", "Key of the E2B account; with it pools may run there.", True, note=_e2b_state
        ),
        Setting("E2B_MAX_SANDBOXES", "E2B_MAX_SANDBOXES", "Most sandboxes at once at E2B."),
        Setting("E2B_TEMPLATE_PYTHON", "E2B_TEMPLATE_PYTHON", "The E2B template of Python programs."),
        Setting("E2B_TEMPLATE_NODE", "E2B_TEMPLATE_NODE", "The E2B template of Node programs."),
        Setting("E2B_SANDBOX_CPUS", "E2B_SANDBOX_CPUS", "CPUs of a sandbox of these templates; more is refused."),
        Setting("E2B_SANDBOX_MEMORY_MB", "E2B_SANDBOX_MEMORY_MB", "Its memory in MB; more is refused."),
        Setting("E2B_LONGEST_SECONDS", "E2B_LONGEST_SECONDS", "Longest life of a sandbox that the account allows."),
        Setting("E2B_DOMAIN", "E2B_DOMAIN", "Another E2B, by its domain."),
        Setting("E2B_API_URL", "E2B_API_URL", "Another E2B, by the address of its API."),
        Setting("E2B_SANDBOX_URL", "E2B_SANDBOX_URL", "And the address of its sandboxes."),
    ),
    "Billing": (
        Setting("DEFAULT_CREDITS", "DEFAULT_CREDITS", "Credits a new account is given."),
        Setting("CREDIT_PRICE", "CREDIT_PRICE", "What one credit costs."),
        Setting("CREDIT_CURRENCY", "CREDIT_CURRENCY", "Currency of that price."),
        Setting(
            "NTD_WEBHOOK_PRIVATE_NETWORKS",
            "WEBHOOK_PRIVATE_NETWORKS",
            "Private networks that webhooks to customers may go to.",
            empty="none",
        ),
        Setting("PAYMENT_GATEWAY_URL", "PAYMENT_GATEWAY_URL", "Where payments go; the simulated gateway when not set."),
        Setting(
            "NTD_GATEWAY_SECRET_HTTP",
            "HTTP_GATEWAY_SECRETS",
            "What that gateway and this service sign with; several while one replaces another.",
            is_secret=True,
        ),
        Setting("STRIPE_API_KEY", "STRIPE_API_KEY", "Key of the Stripe account; with it cards are taken there.", True),
        Setting(
            "STRIPE_WEBHOOK_SECRET",
            "STRIPE_WEBHOOK_SECRETS",
            "What Stripe signs its webhooks with; several while one replaces another.",
            is_secret=True,
        ),
        Setting("STRIPE_API_URL", "STRIPE_API_URL", "Another address of Stripe's API."),
        Setting("BANK_IBAN", "BANK_IBAN", "Account that bank transfers go to; none are offered when not set."),
        Setting("BANK_BIC", "BANK_BIC", "The bank's BIC, for transfers from elsewhere."),
        Setting("BANK_ACCOUNT_HOLDER", "BANK_ACCOUNT_HOLDER", "In whose name that account is."),
        Setting("NTD_SIMULATED_GATEWAY", "SIMULATED_GATEWAY", "Whether payments that cost nothing are taken."),
        Setting("NTD_USDC_RPC_URL", "USDC_RPC_URL", "The node that tells what came in USDC; off when not set.", True),
        Setting("NTD_USDC_NETWORK", "USDC_NETWORK", "Its network, as CAIP-2 writes it."),
        Setting("NTD_USDC_TOKEN", "USDC_TOKEN", "Address of the USDC contract there."),
        Setting("NTD_USDC_XPUB", "USDC_XPUB", "Extended public key that addresses to pay at are derived from."),
        Setting("NTD_USDC_ADDRESSES", "USDC_ADDRESSES", "Or the addresses themselves, each given out once."),
        Setting("NTD_USDC_CONFIRMATIONS", "USDC_CONFIRMATIONS", "Blocks, with its own, before a transfer counts."),
        Setting("NTD_USDC_RATE", "USDC_RATE", "USDC for one unit of the credit's currency."),
        Setting("NTD_X402_FACILITATOR_URL", "X402_FACILITATOR_URL", "Who settles requests that pay for themselves."),
        Setting("NTD_X402_FACILITATOR_ADDRESS", "X402_FACILITATOR_ADDRESS", "Its address; with it `upto` is offered."),
        Setting("NTD_X402_PAY_TO", "X402_PAY_TO", "Address that is paid by x402."),
        Setting("NTD_X402_TOKEN_NAME", "X402_TOKEN_NAME", "The token's name, as wallets sign it."),
        Setting("NTD_SIMULATED_CHAIN", "SIMULATED_CHAIN", "A chain without value, to try payments in USDC."),
    ),
    "Service": (
        Setting("NTD_ENV", "NTD_ENV", "Development or production; production is strict about the rest."),
        Setting("NTD_BASE_URL", "BASE_URL", "Address of this service in links and mails."),
        Setting("DATABASE_URL", "DATABASE_URL", "PostgreSQL; the embedded one when not set."),
        Setting("REDIS_URL", "REDIS_URL", "Redis or Valkey; the embedded one when not set."),
        Setting("RATE_LIMIT_PER_MINUTE", "RATE_LIMIT_PER_MINUTE", "API calls a minute of a key without its own limit."),
        Setting("METRICS_TOKEN", "METRICS_TOKEN", "Bearer token that may read /metrics.", is_secret=True),
        Setting("SECRET_KEY", "SECRET_KEY", "Signs sessions and links.", is_secret=True),
        Setting("DEBUG", "DEBUG", "Error pages with details; never in production."),
        Setting("NTD_TEST_CLOCK", "NTD_TEST_CLOCK", "A clock tests can move; needs DEBUG."),
    ),
}


@login_required
@require_safe
def staff_settings(request: HttpRequest) -> HttpResponse:
    if not request.user.is_staff:
        raise PermissionDenied("System settings are for staff.")
    return render(request, "staff_settings.html", {"groups": SETTINGS})
