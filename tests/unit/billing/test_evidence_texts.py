from __future__ import annotations

import pytest

from billing import evidence_texts

LONG = [name for name in evidence_texts.FIELDS if name not in evidence_texts.SHORT]


def test_texts_are_trimmed_and_empty_ones_left_out() -> None:
    said = evidence_texts.clean(
        {"uncategorized_text": " It was used.\nTwice. ", "customer_name": "  ", "service_date": ""}
    )

    assert said == {"uncategorized_text": "It was used.\nTwice."}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "uncategorized_text"),
        ({"customer_name": " "}, "uncategorized_text"),
        ({"no_such": "text"}, "no_such"),
        ({"customer_name": "Two\nlines"}, "customer_name"),
        ({"customer_name": "x" * 201}, "customer_name"),
        ({"uncategorized_text": "a\x00b"}, "uncategorized_text"),
        ({"uncategorized_text": "x" * 20_001}, "uncategorized_text"),
        (dict.fromkeys(LONG[:4], "x" * 20_000), "uncategorized_text"),
    ],
)
def test_what_cannot_be_handed_in_is_named(given: dict[str, str], name: str) -> None:
    with pytest.raises(evidence_texts.NoEvidence) as wrong:
        evidence_texts.clean(given)

    assert name in wrong.value.errors


def test_letters_of_any_script_are_texts() -> None:
    said = {"customer_name": "Zoë 山田 👩‍💻", "uncategorized_text": "שלום\tعالم"}

    assert evidence_texts.clean(said) == said
