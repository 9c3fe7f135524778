"""The way to an upstream, as a courier needs it."""

from collections.abc import Mapping
from typing import Protocol

from relay.deliver import batches
from relay.upstream import outcomes
from relay.upstream.settings import DestinationSettings


class Exchanges(Protocol):
    """The way to the upstream: `upstream.Upstream`, or a double of it."""

    def update(self, settings: DestinationSettings) -> None:
        """Use `settings` from the next exchange on."""
        ...

    async def send(self, batch: batches.Batch, headers: Mapping[str, str]) -> outcomes.Outcome:
        """One exchange."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
