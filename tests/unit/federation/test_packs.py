"""Messages packed: nothing is lost, nothing of one pair changes its order, and ids say where a message is."""

import json
import math
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation import packs
from federation.packs import Draft

A, B, C = (uuid4() for _ in range(3))
PACK = "0197f0e2-1234-7abc-8def-012345678"

DRAFTS = st.lists(
    st.fixed_dictionaries(
        {
            "sender": st.sampled_from([A, B]),
            "recipient": st.sampled_from([B, C, None]),
            "priority": st.integers(4, 6),
            "ttl_seconds": st.sampled_from([10, 20]),
            "message_id": st.sampled_from(["", "", "once"]),
        }
    ).map(lambda fields: Draft(**fields)),
    max_size=30,
)


def packed(drafts):
    return packs.packed((place, draft, packs.body_of(draft)) for place, draft in enumerate(drafts))


@given(drafts=DRAFTS)
def test_every_draft_is_in_one_pack_with_its_like(drafts):
    found = packed(drafts)

    assert sorted(place for pack in found for place in pack.places) == list(range(len(drafts)))
    for pack in found:
        alike = {
            (each.sender, each.recipient, each.priority, each.ttl_seconds)
            for each in map(drafts.__getitem__, pack.places)
        }
        assert len(alike) == 1
        assert len(pack.places) == 1 or not any(drafts[place].goes_alone for place in pack.places)


@given(drafts=DRAFTS)
def test_messages_of_one_pair_and_priority_keep_their_order(drafts):
    sent = [place for pack in packed(drafts) for place in pack.places]

    for sender in (A, B):
        for recipient in (B, C):
            for priority in (4, 5, 6):
                pair = [
                    place
                    for place in sent
                    if drafts[place].sender == sender
                    and drafts[place].recipient in (recipient, None)
                    and drafts[place].priority == priority
                ]
                assert pair == sorted(pair)


def test_a_run_of_messages_is_one_pack_until_it_is_full():
    draft = Draft(A, B)

    assert [len(pack.places) for pack in packed([draft] * 2500)] == [1000, 1000, 500]


def test_a_pack_is_bounded_in_bytes():
    draft = Draft(A, B, payload="x" * 100_000)

    assert [len(pack.places) for pack in packed([draft] * 5)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("payload", "refusal"),
    [
        ("x" * packs.MAX_PAYLOAD_BYTES, packs.PayloadTooLarge),
        ("é" * (packs.MAX_PAYLOAD_BYTES // 2), packs.PayloadTooLarge),
        ("a\x00b", packs.UnfitPayload),
        ({"key\x00": 1}, packs.UnfitPayload),
        ("\ud800", packs.UnfitPayload),
        (math.nan, packs.UnfitPayload),
        ([math.inf], packs.UnfitPayload),
    ],
)
def test_what_cannot_be_kept_is_refused(payload, refusal):
    with pytest.raises(refusal):
        packs.body_of(Draft(A, B, payload=payload))


@pytest.mark.parametrize("payload", ["x" * (packs.MAX_PAYLOAD_BYTES - 2), "line\nbreak", {"a": [1, None, 2**70]}, None])
def test_what_can_be_kept_is_one_line_that_says_it(payload):
    body = packs.body_of(Draft(A, B, payload=payload))

    assert b"\n" not in body
    assert json.loads(body) == ["custom", payload, ""]


def test_ids_say_pack_and_place():
    ids = [packs.message_id(PACK, place) for place in (0, 2, 999)]

    ((pack_id, mask),) = packs.masks(ids).items()

    assert pack_id == PACK
    assert [place for place, mark in enumerate(mask) if mark == "1"] == [0, 2, 999]


@pytest.mark.parametrize(
    ("first", "mask", "runs"),
    [
        (0, "111", [(0, 2)]),
        (0, "000", []),
        (5, "1011", [(5, 5), (7, 8)]),
    ],
)
def test_a_mask_is_read_in_runs(first, mask, runs):
    assert list(packs.runs(first, mask)) == runs


def test_what_ended_of_a_pack_is_not_offered_again():
    offer = packs.Offer(PACK, {}, [], packs.moment(0), 2, "")

    found = list(packs.items(offer, 10, b'["custom",1,""]\n["custom",2,""]\n["custom",3,""]', b"010"))

    assert [item.body[1] for item in found] == [1, 3]
    assert [item.id for item in found] == [packs.message_id(PACK, 10), packs.message_id(PACK, 12)]


def test_a_receipt_is_the_same_after_it_was_kept():
    receipt = packs.Receipt(PACK, 7, [str(A), str(B)], 1, 1, packs.moment(1_764_000_000_123), "c")

    assert packs.Receipt.from_text(receipt.as_text()) == receipt


def test_a_pack_is_cut_where_room_ends():
    (pack,) = packed([Draft(A, B)] * 5)

    kept, others = pack.split(2)

    assert (kept.places, len(kept.bodies), others) == ([0, 1], 2, [2, 3, 4])
