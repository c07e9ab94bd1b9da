import pytest
from rest_framework.test import APIClient

from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runtime")]


def client_of(account, **key):
    _, secret = factories.make_key(account, **key)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def test_submitting_answers_201_with_the_queued_execution():
    client = client_of(factories.make_account())

    answer = client.post("/api/v1/executions", {"language": "python", "code": "print(1)"}, format="json")

    assert answer.status_code == 201, answer.content
    assert answer.json()["state"] == "queued"
    print(answer.json())
