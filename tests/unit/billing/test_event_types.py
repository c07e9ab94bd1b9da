from __future__ import annotations

import json
import re

from billing.outgoing import event_types


def test_names_are_thing_and_fact_and_said_once() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", name) for name in event_types.NAMES)
    assert len(set(event_types.NAMES)) == len(event_types.NAMES)


def test_every_type_says_what_it_means_and_shows_its_data() -> None:
    for each in event_types.CATALOGUE:
        assert each.sentence.endswith(".")
        assert json.loads(json.dumps(dict(each.example))) == dict(each.example) != {}


def test_unknown_types_are_found_and_everything_is_known() -> None:
    assert event_types.unknown(["*", "invoice.paid", "invoice.eaten"]) == ["invoice.eaten"]


def test_what_is_about_the_machines_is_the_operators() -> None:
    assert event_types.operators_only(["*", "invoice.paid", "node.unhealthy"]) == ["node.unhealthy"]
