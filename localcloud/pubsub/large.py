"""Messages that a stock client cannot take.

In emulator mode it opens a bare channel, which refuses a response above 4 MiB with RESOURCE_EXHAUSTED, and asks again: for
ever, where the subscription has no dead-letter policy. The sender cannot tell what a client takes, so it says what it sent.
"""

import logging

STOCK_RECEIVE_BYTES = 4 << 20

_LOG = logging.getLogger(__name__)


def note(subscription: str, message_id: int, response: bytes) -> None:
    """Say in the log that a response with one message is larger than a stock client takes, if it is."""
    if len(response) > STOCK_RECEIVE_BYTES:
        _LOG.warning(
            "a message above 4 MiB was sent, which stock clients refuse; let them raise grpc.max_receive_message_length, or "
            "send the data by way of a bucket",
            extra={
                "action": "large_message_sent",
                "subscription": subscription,
                "message_id": str(message_id),
                "size_bytes": len(response),
            },
        )
