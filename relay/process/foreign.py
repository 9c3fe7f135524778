"""Prepares what another program wrote into the topics of a fleet, as what comes over HTTP is.

All threads that read a fleet share it: it has caches of its own and takes one record at a time.
"""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from relay.model.errors import Refusal
from relay.model.records import Encoding, Sender, Signal
from relay.process.check.rejections import AllItemsRejected, unreadable_body
from relay.process.prepare import Prepare, Prepared, PrepareSettings

if TYPE_CHECKING:
    from relay.process.before_kept import BeforeKept

FOREIGN: Final = Sender(address="")
"""Who is named as the sender of a record that no relay wrote."""

Current = tuple[PrepareSettings, "BeforeKept | None"]


class PrepareForeign:
    """Check → enrich → the steps of `[process]`, with the settings as they are at each call."""

    def __init__(self, current: Callable[[], Current]) -> None:
        self._current = current
        self._prepare: Prepare | None = None
        self._lock = threading.Lock()

    def __call__(
        self, body: bytes, encoding: Encoding, signal: Signal
    ) -> tuple[Prepared, Mapping[str, int]]:
        """What of a record can be delivered, and how many items each step dropped or changed.

        `rejected` is what cannot: where there are no pieces either, all of it was dropped or it
        held nothing.
        """
        settings, before_kept = self._current()
        try:
            with self._lock:
                if self._prepare is None or self._prepare.settings != settings:
                    self._prepare = Prepare(settings)
                prepared = self._prepare(body, encoding, FOREIGN, signal=signal)
            return (prepared, {}) if before_kept is None else before_kept.at_once(prepared)
        except AllItemsRejected as refusal:
            rejected, words = refusal.rejected, refusal.message
        except Refusal as refusal:
            rejected = (unreadable_body(body, encoding, refusal.message, signal),)
            words = refusal.message
        if before_kept is not None:
            rejected = before_kept.rejected(rejected)
        return Prepared((), 0, rejected, message=words), {}
