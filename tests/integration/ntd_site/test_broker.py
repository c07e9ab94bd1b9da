"""kombu's transport, told to keep its clients."""

from __future__ import annotations

from ntd_site import broker
from ntd_site.celery import app


def test_the_transport_is_ours() -> None:
    with app.connection_for_write() as connection:
        assert isinstance(connection.transport, broker.Transport)


def test_a_channel_makes_one_client() -> None:
    with app.connection_for_write() as connection:
        channel = connection.default_channel

        assert channel._create_client() is channel._create_client()


def test_what_waits_for_messages_has_a_client_of_its_own() -> None:
    with app.connection_for_write() as connection:
        channel = connection.default_channel

        assert channel._create_client(asynchronous=True) is not channel._create_client(asynchronous=True)


def test_a_new_pool_gets_a_new_client() -> None:
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        before = channel._create_client()

        channel._disconnect_pools()

        assert channel._create_client() is not before
        assert channel._create_client().ping()
