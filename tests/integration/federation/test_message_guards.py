"""A message is of a federation that is there: the database looks once a statement, as a foreign key would once a row."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from federation.models import Federation, Message
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def message(federation_id):
    return Message(federation_id=federation_id, sender=uuid4(), type="custom", recipients=1, created_at=NOW)


def test_one_of_many_without_its_federation_refuses_them_all():
    federation = factories.make_federation(now=NOW)

    with pytest.raises(IntegrityError, match="not there"), transaction.atomic():
        Message.objects.bulk_create([message(federation.pk), message(uuid4()), message(federation.pk)])

    assert not Message.objects.exists()
    Message.objects.bulk_create([message(federation.pk), message(federation.pk)])
    assert federation.messages.count() == 2


def test_it_stays_there():
    first, second = factories.make_federation(now=NOW), factories.make_federation(name="Other", now=NOW)
    Message.objects.bulk_create([message(first.pk)])

    with pytest.raises(DatabaseError, match="stays"), transaction.atomic():
        Message.objects.update(federation=second)

    assert Message.objects.update(federation=first, delivered=1) == 1


def test_a_federation_goes_with_its_messages_or_not_at_all():
    federation = factories.make_federation(now=NOW)
    Message.objects.bulk_create([message(federation.pk)])

    with pytest.raises(IntegrityError, match="messages are of"), transaction.atomic():
        gone_alone(federation)

    assert Federation.objects.filter(pk=federation.pk).exists()
    with transaction.atomic():
        Message.objects.all().delete()
        gone_alone(federation)
    assert not Federation.objects.filter(pk=federation.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_is_written_meanwhile_keeps_it():
    federation = factories.make_federation(now=NOW)

    def delete():
        try:
            with transaction.atomic():
                gone_alone(federation)
        except IntegrityError:
            return "refused"
        finally:
            connection.close()
        return "gone"

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Message.objects.bulk_create([message(federation.pk)])
            deleting = pool.submit(delete)
            assert not deleting.done()
        assert deleting.result(timeout=10) == "refused"
    assert federation.messages.count() == 1


def gone_alone(federation):
    with connection.cursor() as cursor:
        for table in ("topologyversion", "event"):
            cursor.execute(f"delete from federation_{table} where federation_id = %s", [federation.pk])
        cursor.execute("delete from federation_federation where id = %s", [federation.pk])
        cursor.execute("set constraints all immediate")
