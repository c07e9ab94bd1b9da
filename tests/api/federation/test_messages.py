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


def test_a_relayed_message_is_passed_on_by_acknowledging_it(api, account):
    federation = factories.make_federation(account, topology="ring")
    members = [factories.make_agent(federation, f"agent-{number}", runtime="remote") for number in range(5)]
    changed = api.patch(f"federations/{federation.pk}", {"delivery": "relayed"})
    assert (changed.status_code, changed.json()["delivery"]) == (200, "relayed")

    sent = send(api, federation, members[0], to=str(members[2].pk)).json()
    (item,) = api.get(f"agents/{members[1].pk}/inbox").json()["results"]
    api.post(f"agents/{members[1].pk}/inbox/ack", {"ids": [sent["id"]]})
    (arrived,) = api.get(f"agents/{members[2].pk}/inbox").json()["results"]

    assert (sent["hops"], item["relay_to"], item["hops"]) == (2, str(members[2].pk), 1)
    assert (arrived["relay_to"], arrived["hops"], arrived["id"]) == (None, 2, sent["id"])


def test_a_request_nobody_answers_is_504(api, federation, pair):
    one, two = pair

    answer = api.post(
        f"federations/{federation.pk}/messages?wait=0.05",
        {"from": str(one.pk), "to": str(two.pk), "reply_timeout_seconds": 30},
    )

    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert answer.json()["correlation_id"] == api.get(f"agents/{two.pk}/inbox").json()["results"][0]["correlation_id"]


def test_a_reply_is_answered_to_who_asks_again(api, federation, pair):
    one, two = pair
    asked = {"from": str(one.pk), "to": str(two.pk), "reply_timeout_seconds": 30, "message_id": "q"}
    receipt = api.post(f"federations/{federation.pk}/messages", asked).json()
    send(api, federation, two, to=str(one.pk), correlation_id=receipt["correlation_id"], payload={"answer": 42})

    answer = api.post(f"federations/{federation.pk}/messages?wait=1", asked)

    assert (receipt["reply"], answer.status_code) == (None, 201)
    assert (answer.json()["id"], answer.json()["reply"]["payload"]) == (receipt["id"], {"answer": 42})
    assert answer.json()["reply"]["from"] == str(two.pk)


@pytest.mark.parametrize("seconds", [0, -1, 100_000, "soon", None, True])
def test_a_reply_timeout_is_some_seconds(api, federation, pair, seconds):
    one, two = pair

    answer = send(api, federation, one, to=str(two.pk), reply_timeout_seconds=seconds)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["reply_timeout_seconds"])


def test_the_history_is_filtered_by_state_agent_and_text(api, federation, pair):
    one, two = pair
    send(api, federation, one, to=str(two.pk), payload={"order": "buy AAPL"})
    send(api, federation, two, to=str(one.pk), payload={"order": "sell"})
    read = api.get(f"agents/{two.pk}/inbox").json()["results"]
    api.post(f"agents/{two.pk}/inbox/ack", {"ids": [read[0]["id"]]})

    def count(**query):
        return len(api.get(f"federations/{federation.pk}/messages", **query).json()["results"])

    assert (count(state="queued"), count(state="delivered"), count(state="late_reply")) == (1, 1, 0)
    assert (count(q="aapl"), count(q="order"), count(q="nothing"), count(agent=str(one.pk))) == (1, 2, 0, 2)
    assert api.get(f"federations/{federation.pk}/messages", state="lost").status_code == 400


def test_plain_items_of_a_batch_are_read_as_the_serializer_reads_them(api, federation, pair):
    one, two = pair
    good = {"from": str(one.pk), "to": str(two.pk), "payload": {"n": 1}, "priority": 7, "ttl_seconds": 60}
    items = [good, {**good, "durable": False}]

    plain, closer = api.post(f"federations/{federation.pk}/messages/batch", {"messages": items}).json()["results"]
    first, second = api.get(f"agents/{two.pk}/inbox").json()["results"]

    assert plain.keys() == closer.keys()
    for name in ("from", "to", "type", "payload", "priority", "correlation_id", "path"):
        assert first[name] == second[name]
    assert first["expires_at"] == plain["expires_at"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"priority": True}, "priority"),
        ({"priority": -1}, "priority"),
        ({"ttl_seconds": -5}, "ttl_seconds"),
        ({"ttl_seconds": 10**9}, "ttl_seconds"),
        ({"type": ["custom"]}, "type"),
        ({"to": "nobody"}, "to"),
        ({"from": "me"}, "from"),
        ({"extra": 1}, "extra"),
        ({"payload": "a\x00b"}, "payload"),
    ],
)
def test_a_wrong_item_of_a_batch_is_refused_with_its_field(api, federation, pair, change, field):
    one, two = pair
    good = {"from": str(one.pk), "to": str(two.pk)}

    answer = api.post(f"federations/{federation.pk}/messages/batch", {"messages": [{**good, **change}, good]})

    refused, accepted = answer.json()["results"]
    assert (refused["code"], list(refused["errors"])) == ("validation_error", [field])
    assert accepted["recipients"] == 1


def test_strangers_in_a_batch_are_404_by_themselves(api, federation, pair, charlie):
    one, two = pair
    stranger = factories.make_agent(factories.make_federation(), "stranger")
    good = {"from": str(one.pk), "to": str(two.pk)}

    items = [{**good, "to": str(stranger.pk)}, {**good, "from": str(stranger.pk)}, good]
    answer = api.post(f"federations/{federation.pk}/messages/batch", {"messages": items})

    assert [each.get("code") for each in answer.json()["results"]] == ["not_found", "not_found", None]
    assert charlie.post(f"federations/{federation.pk}/messages/batch", {"messages": [good]}).status_code == 404


def test_all_dead_letters_are_replayed_at_once(api, account, charlie):
    federation = factories.make_federation(account, topology="ring", max_hops=1)
    members = [factories.make_agent(federation, f"agent-{number}") for number in range(4)]
    for _ in range(3):
        send(api, federation, members[0], to=str(members[2].pk))
    api.get(f"federations/{federation.pk}/dead-letters")
    api.patch(f"federations/{federation.pk}", {"max_hops": 0})

    answer = api.post(f"federations/{federation.pk}/dead-letters/replay", {"reason": "hops"})

    assert answer.json() == {"replayed": 3, "refused": 0}
    assert len(api.get(f"agents/{members[2].pk}/inbox").json()["results"]) == 3
    assert charlie.post(f"federations/{federation.pk}/dead-letters/replay").status_code == 404


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
