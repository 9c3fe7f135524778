"""Everything that a page asks of the daemon beside its status, in one place."""

from collections.abc import Mapping
from typing import Any

from relay.buffer.api import Log
from relay.buffer.values import DeadLetterFilter
from relay.dead_letters.look import INGEST, Looking
from relay.dead_letters.redactions import Redactions
from relay.deliver.fleet import Fleet
from relay.ingest.pipeline import Pipeline
from relay.ingest.refusals import Refusals
from relay.model.counters import Counters
from relay.model.units import iso
from relay.traces.where import Traces
from relay.view.as_destination import AsDestination
from relay.view.browse import Browser
from relay.view.one_trace import OneTrace
from relay.view.series import Series
from relay.view.watch import Watch


class View:
    """What is looked at, of the parts of one daemon."""

    def __init__(
        self,
        log: Log,
        fleet: Fleet,
        counters: Counters,
        refusals: Refusals,
        traces: Traces,
        pipeline: Pipeline,
    ) -> None:
        self.browser = Browser(log)
        self.series = Series(self.browser)
        self.watch = Watch(log, fleet, counters, self._forget_unused)
        self.one_trace = OneTrace(log, traces, self.browser, self._added)
        self._letters = Looking(log.dead_letters, Redactions(tuple))  # lists, no contents
        self.as_destination = AsDestination(fleet.views)
        self._refusals = refusals
        self._pipeline = pipeline

    def _forget_unused(self) -> None:
        self.series.forget_unused()
        self.browser.forget_unused()

    def _added(self) -> Mapping[str, str]:
        settings = self._pipeline.prepare.settings
        return {**settings.detected, **settings.configured}

    async def rejected(self, before: int, limit: int) -> dict[str, Any]:
        """Items and bodies that were refused on the way in, newest first; requests of the hour."""
        found = await self._letters.entries(
            DeadLetterFilter(destination=INGEST), before=before, limit=limit
        )
        senders = self.browser.browse.sender_of_rejected
        items = []
        for entry in found.entries:
            letter = entry.letter
            sender = senders(letter.received_ns)
            items.append(
                {
                    "dead_letter": entry.letter_id,
                    "at": iso(letter.received_ns),
                    "signal": letter.signal.word,
                    "reason": letter.reason,
                    "path": letter.path,
                    "words": letter.words,
                    "items": letter.items,
                    "sender": sender.address if sender else None,
                    "user_agent": sender.user_agent[:200] if sender else None,
                    "bytes": entry.raw_bytes,
                }
            )
        return {"rejected": items, "next": found.next, "requests": self._refusals.last_hour()}
