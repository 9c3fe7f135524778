"""Whose request dead letters of ingest were made of, which say nothing of a sender themselves."""

from typing import Final

from relay.model.records import Request, Sender

_MOST: Final = 1000


class RejectedSenders:
    """The senders of the newest thousand requests of which items were rejected.

    By received time, which is that of their dead letters.
    """

    def __init__(self) -> None:
        self._senders: dict[int, Sender] = {}

    def note(self, request: Request) -> None:
        """Remember whose request it is."""
        self._senders[request.received_ns] = request.sender
        if len(self._senders) > _MOST:
            del self._senders[next(iter(self._senders))]

    def of(self, received_ns: int) -> Sender | None:
        """Who sent the request that was received then, if that is remembered."""
        return self._senders.get(received_ns)
