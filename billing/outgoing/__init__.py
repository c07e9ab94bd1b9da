"""Outgoing webhooks: what happens here is told to the addresses that customers name, as the Standard Webhooks say.

    publish   writes the event and its deliveries, in the transaction of what it tells    (outbox.py)
    courier   sends what is due, many at once, a few to each address                       (courier.py, wire.py)
    replay    makes new deliveries of events that were told before; their ids stay          (replaying.py)

At least once and in no promised order: receivers go by `webhook-id`. Nothing is sent to private addresses.
"""
