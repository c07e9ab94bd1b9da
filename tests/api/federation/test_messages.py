import pytest

from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def pair(federation):
    return factories.make_agent(federation, "agent-1"), factories.make_agent(federation, "agent-2")


def send(api, federation, sender, **changes):
    body = {"from": str(sender.pk), "payload": {"n": 1}} | changes
    return api.post(f"federations/{federation.pk}/messages", body)


def test_a_direct_message_arrives_with_its_path_and_is_acknowledged(api, federation, pair):
    one, two = pair

    sent = send(api, federation, one, to=str(two.pk), type="data_sync")
    inbox = api.get(f"agents/{two.pk}/inbox").json()["results"]
    acked = api.post(f"agents/{two.pk}/inbox/ack", {"ids": [sent.json()["id"]]})

    assert (sent.status_code, sent.json()["hops"], sent.json()["recipients"]) == (201, 1, 1)
    assert sent.json()["path"] == [str(one.pk), str(two.pk)]
    assert len(inbox) == 1
    assert (inbox[0]["id"], inbox[0]["from"], inbox[0]["type"]) == (sent.json()["id"], str(one.pk), "data_sync")
    assert (inbox[0]["payload"], inbox[0]["delivery_count"], inbox[0]["hops"]) == ({"n": 1}, 1, 1)
    assert acked.json() == {"acknowledged": 1}
    assert api.get(f"agents/{two.pk}/inbox").json()["results"] == []


def test_the_history_says_what_became_of_a_message(api, federation, pair):
    one, two = pair
    sent = send(api, federation, one, to=str(two.pk)).json()

    def outcomes():
        return [each["outcome"] for each in api.get(f"federations/{federation.pk}/messages").json()["results"]]

    assert outcomes() == ["queued"]
    api.get(f"agents/{two.pk}/inbox")
    api.post(f"agents/{two.pk}/inbox/ack", {"ids": [sent["id"]]})
    assert outcomes() == ["delivered"]


def test_the_history_is_filtered_by_sender_recipient_and_correlation(api, federation, pair):
    one, two = pair
    send(api, federation, one, to=str(two.pk), correlation_id="x")
    send(api, federation, two)

    def count(**query):
        return len(api.get(f"federations/{federation.pk}/messages", **query).json()["results"])

    assert (count(), count(**{"from": str(one.pk)}), count(to=str(two.pk)), count(correlation_id="x")) == (2, 1, 1, 1)
    assert api.get(f"federations/{federation.pk}/messages", type="gossip").status_code == 400


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("ttl_seconds", 0, 400),
        ("ttl_seconds", -5, 400),
        ("priority", 10, 400),
        ("type", "gossip", 400),
        ("to", "00000000-0000-0000-0000-000000000000", 404),
        ("from", "00000000-0000-0000-0000-000000000000", 404),
        ("payload", "x" * 300_000, 413),
    ],
)
def test_a_wrong_message_is_refused(api, federation, pair, field, value, status):
    one, two = pair

    assert send(api, federation, one, **{"to": str(two.pk)} | {field: value}).status_code == status


def test_to_oneself_is_400(api, federation, pair):
    answer = send(api, federation, pair[0], to=str(pair[0].pk))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["to"])


def test_the_same_message_id_is_sent_once(api, federation, pair):
    one, two = pair

    first = send(api, federation, one, to=str(two.pk), message_id="m-1").json()
    again = send(api, federation, one, to=str(two.pk), message_id="m-1").json()

    assert first == again
    assert len(api.get(f"agents/{two.pk}/inbox").json()["results"]) == 1


def test_a_full_inbox_is_429(api, account):
    federation = factories.make_federation(account, inbox_limit=1)
    one, two = factories.make_agent(federation, "one"), factories.make_agent(federation, "two")
    send(api, federation, one, to=str(two.pk))

    answer = send(api, federation, one, to=str(two.pk))

    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (429, "resource_limit_exceeded", 1)


def test_a_batch_answers_item_by_item_in_order(api, federation, pair):
    one, two = pair
    good = {"from": str(one.pk), "to": str(two.pk)}

    answer = api.post(
        f"federations/{federation.pk}/messages/batch",
        {"messages": [good, {**good, "to": str(one.pk)}, {**good, "priority": 99}, good, {"to": str(two.pk)}]},
    )

    first, oneself, invalid, last, nobody = answer.json()["results"]
    assert first["recipients"] == last["recipients"] == 1
    assert (oneself["code"], list(oneself["errors"])) == ("validation_error", ["to"])
    assert list(invalid["errors"]) == ["priority"]
    assert list(nobody["errors"]) == ["from"]
    assert len(api.get(f"agents/{two.pk}/inbox").json()["results"]) == 2


def test_the_accounts_of_messages_balance(api, federation, pair):
    one, two = pair
    ids = [send(api, federation, one, to=str(two.pk)).json()["id"] for _ in range(3)]
    api.get(f"agents/{two.pk}/inbox")
    api.post(f"agents/{two.pk}/inbox/ack", {"ids": ids[:1]})

    body = api.get(f"federations/{federation.pk}/messages/accounting").json()

    assert body == {"accepted": 3, "delivered": 1, "expired": 0, "dead": 0, "queued": 2}


def test_an_agents_token_sends_only_as_itself(federation, as_agent):
    one, token = factories.make_agent_with_token(federation, "one")
    two = factories.make_agent(federation, "two")
    caller = as_agent(token)

    own = caller.post(f"federations/{federation.pk}/messages", {"to": str(two.pk)})
    forged = caller.post(f"federations/{federation.pk}/messages", {"from": str(two.pk), "to": str(one.pk)})

    assert own.status_code == 201
    assert forged.status_code == 403


def test_too_many_hops_end_in_a_dead_letter_that_can_be_replayed(api, account):
    federation = factories.make_federation(account, topology="ring", max_hops=1)
    members = [factories.make_agent(federation, f"agent-{number}") for number in range(4)]
    send(api, federation, members[0], to=str(members[2].pk))

    letter = api.get(f"federations/{federation.pk}/dead-letters").json()["results"][0]
    assert (letter["kind"], letter["reason"], letter["agent"]) == ("message", "hops", str(members[2].pk))
    assert api.get(f"federations/{federation.pk}/messages/accounting").json()["dead"] == 1

    api.patch(f"federations/{federation.pk}", {"max_hops": 0})
    replayed = api.post(f"dead-letters/{letter['id']}/replay")
    assert (replayed.status_code, replayed.json()["kind"]) == (200, "message")
    assert len(api.get(f"agents/{members[2].pk}/inbox").json()["results"]) == 1
    assert api.post(f"dead-letters/{letter['id']}/replay").status_code == 409


def test_F9_a_direct_message_keeps_its_type_and_sender(api, federation, pair):
    one, two = pair
    send(api, federation, one, to=str(two.pk), type="custom")

    item = api.get(f"agents/{two.pk}/inbox").json()["results"][0]

    assert (item["type"], item["from"], item["to"]) == ("custom", str(one.pk), str(two.pk))


def test_F10_no_recipient_is_a_broadcast(api, federation, pair):
    factories.make_agent(federation, "agent-3")

    sent = send(api, federation, pair[0]).json()

    assert sent["recipients"] == 2
    assert api.get(f"agents/{pair[1].pk}/inbox").json()["results"][0]["to"] is None


def test_F11_two_registered_agents_are_two(api, federation, pair):
    assert api.get(f"federations/{federation.pk}").json()["agents"] == 2


def test_F12_a_message_to_one_arrives_exactly_once(api, federation, pair):
    send(api, federation, pair[0], to=str(pair[1].pk))

    assert len(api.get(f"agents/{pair[1].pk}/inbox").json()["results"]) == 1
    assert api.get(f"agents/{pair[0].pk}/inbox").json()["results"] == []
