import pytest

from federation.models import Agent
from tests import factories

pytestmark = pytest.mark.django_db
CODE = "def handle(payload):\n    return payload\n"


def add(api, federation, **body):
    return api.post(f"federations/{federation.pk}/agents", {"name": "anna", **body})


def test_an_agent_is_made_with_a_handler_and_the_answer_says_which_version(api, federation):
    made = add(api, federation, handler={"code": CODE, "types": ["price"], "limits": {"memory_mb": 256}})

    assert made.status_code == 201
    found = made.json()["handler"]
    assert (found["version"], found["template"], found["types"], found["timeout_seconds"]) == (
        1,
        "python",
        ["price"],
        60,
    )
    assert "code" not in found


def test_a_handler_is_changed_and_its_versions_are_listed_with_their_code(api, federation):
    agent = add(api, federation, handler={"code": CODE}).json()

    changed = api.patch(f"agents/{agent['id']}", {"handler": {"code": CODE + "# two\n"}}).json()
    versions = api.get(f"agents/{agent['id']}/handlers").json()["results"]

    assert changed["handler"]["version"] == 2
    assert [(each["version"], each["code"]) for each in versions] == [(2, CODE + "# two\n"), (1, CODE)]
    assert api.patch(f"agents/{agent['id']}", {"handler": None}).json()["handler"] is None


@pytest.mark.parametrize(
    ("handler", "field", "words"),
    [
        ({"code": "def handle(payload)\n  pass"}, "handler.code", "line 1"),
        ({"code": "x = 1\n\nreturn = 2"}, "handler.code", "line 3"),
        ({"code": ""}, "handler.code", "may not be blank"),
        ({}, "handler.code", "It is empty"),
        ({"code": CODE, "template": "none such"}, "handler.template", "no such template"),
        ({"code": CODE, "template": "node"}, "handler.template", "handlers are Python"),
        ({"code": CODE, "types": ["execute"]}, "handler.types", "not for handlers"),
        ({"code": CODE, "limits": {"memory_mb": 1}}, "handler.limits", "memory_mb"),
        ({"code": CODE, "limits": {"wheels": 4}}, "handler.limits", "no such limit"),
        ({"code": CODE, "network": True}, "handler.network", "no network here"),
        ({"code": CODE, "timeout_seconds": 0}, "handler.timeout_seconds", "above 0"),
        ({"code": CODE, "surprise": 1}, "handler.surprise", "Unknown field"),
        ("code", "handler", "dictionary"),
    ],
)
def test_a_handler_that_cannot_run_is_refused_with_its_field(api, federation, handler, field, words):
    answer = add(api, federation, handler=handler)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert words in " ".join(answer.json()["errors"][field])
    assert Agent.objects.count() == 0


def test_only_managed_agents_have_one(api, federation):
    answer = add(api, federation, runtime="remote", handler={"code": CODE})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["handler"])


def test_somebody_elses_handlers_are_not_there(api, charlie, federation):
    agent = add(api, federation, handler={"code": CODE}).json()

    assert charlie.get(f"agents/{agent['id']}/handlers").status_code == 404
    assert charlie.patch(f"agents/{agent['id']}", {"handler": None}).status_code == 404


def test_the_list_of_agents_costs_the_same_with_handlers(api, federation, django_assert_max_num_queries):
    for number in range(10):
        add(api, federation, name=f"a{number}", handler={"code": CODE})
    factories.make_agent(federation, "plain")

    with django_assert_max_num_queries(10):
        assert len(api.get(f"federations/{federation.pk}/agents").json()["results"]) == 11
