"""The same truths through the product: what a hostile program leaves is kept, told, and fetched as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from sandboxes import claims, engine, executor
from sandboxes.models import Execution
from tests import factories
from tests.integration.sandboxes.hostile.rows import LANGUAGES
from tests.integration.sandboxes.hostile.test_files import ODD_NAMES, WRITE_NAMES
from tests.integration.sandboxes.hostile.test_report import FORGES, LOSES

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def real_engine(attacked) -> Iterator[None]:
    before = engine.runtime()
    engine.register(engine.LOCAL, attacked)
    yield
    engine.register(engine.LOCAL, before)


@pytest.fixture
def account():
    return factories.make_account()


@pytest.fixture
def api(account) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {factories.make_key(account)[1]}")
    return client


def finished(account, code: str, **changes) -> Execution:
    execution = factories.make_execution(account, code=code, **changes)
    assert executor.run(execution=claims.claim(now=timezone.now()), clock=timezone.now) is None
    execution.refresh_from_db()
    return execution


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_forged_report_fails_as_it_is(account, language):
    execution = finished(account, FORGES[1].code(language), language=language)

    assert (execution.state, execution.exit_code, execution.attempt) == ("failed", 9, 1)
    assert execution.output["stdout"] == bytes(29)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_program_that_reaches_for_its_sandbox_is_run_once_and_paid_for(account, language):
    execution = finished(account, LOSES[0].code(language), language=language)

    assert (execution.state, execution.attempt) == ("succeeded", 1)
    assert execution.cost_ucr > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_odd_name_is_fetched_from_its_address_or_named(account, api, language):
    fetched, left_out = {}, 0
    for at in range(0, len(ODD_NAMES), 64):
        env = {"NAMES": json.dumps([list(name) for name in ODD_NAMES[at : at + 64]])}
        execution = finished(account, WRITE_NAMES[language], language=language, env=env)
        told = api.get(f"/api/v1/executions/{execution.pk}").json()

        left_out += len(told["artifacts_truncated"])
        for artifact in told["artifacts"]:
            answer = api.get(artifact["url"])
            assert answer.status_code == 200, artifact
            assert answer["Content-Disposition"].startswith("attachment")
            assert answer["Content-Disposition"].isprintable()
            fetched[artifact["path"].encode()] = answer.content

    characters = {name for name in ODD_NAMES if name.decode(errors="replace").encode() == name}
    assert fetched == {name: name for name in characters}
    assert left_out == len(ODD_NAMES) - len(characters) == 128 + 1


def test_a_path_too_long_to_keep_is_named(account):
    code = "import os; os.makedirs('artifacts/' + '/'.join(['d' * 255] * 5)); open('artifacts/' + '/'.join(['d' * 255] * 5) + '/f', 'w')"

    execution = finished(account, code)

    assert (execution.state, execution.artifact_count) == ("succeeded", 0)
    assert [len(path) for path in execution.artifacts_truncated] == [1024]


def test_a_large_output_is_kept_to_the_byte(account, api):
    code = "import os\nfor n in range(160): os.write(1, bytes([n % 256]) * 65536)\nos.write(2, b'\\xff\\x00' * 1000)"

    execution = finished(account, code, limits={"output_kb": 10 * 1024 + 1})
    url = f"/api/v1/executions/{execution.pk}/output"

    assert execution.state == "succeeded", execution.error
    assert api.get(url).content == b"".join(bytes([n]) * 65536 for n in range(160))
    assert api.get(url + "?offset=10485759").content == bytes([159])
    assert api.get(url + "?stream=stderr").content == b"\xff\x00" * 1000


def test_output_without_end_is_cut_and_says_so(account, api):
    execution = finished(account, "import os\nwhile True: os.write(1, b'x' * 65536)", limits={"output_kb": 100})

    told = api.get(f"/api/v1/executions/{execution.pk}").json()

    assert (told["state"], told["breach"], told["error"]) == ("failed", "output", "It printed more than its 100 KB.")
    assert (len(told["stdout"]), told["stdout_truncated"], told["stderr_truncated"]) == (100 << 10, True, False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_last_words_are_told_whatever_they_are(account, api, language):
    words = {
        "python": "import os; os.write(2, b'\\xff\\x00\\x1b[31m\\xe2\\x80\\xae end'); os._exit(1)",
        "node": "require('fs').writeSync(2, Buffer.from('ff001b5b33316de280ae20656e64', 'hex')); process.reallyExit(1)",
    }

    execution = finished(account, words[language], language=language)

    assert execution.error == "\ufffd\ufffd\x1b[31m\u202e end"
    assert api.get(f"/api/v1/executions/{execution.pk}").json()["error"] == execution.error
