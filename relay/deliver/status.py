"""What a courier meets goes in; its status and the log lines that somebody needs come out.

Only transitions are logged: a destination that is blocked for a week is two lines.
"""

from collections.abc import Callable

import structlog

from relay.config.secrets import mask_url
from relay.model.records import DestinationState, DestinationStatus
from relay.upstream import outcomes
from relay.upstream.settings import DestinationSettings

log = structlog.stdlib.get_logger(__name__)

MAX_WARNINGS = 5
HEALTHY = (DestinationState.IDLE, DestinationState.DELIVERING)
IN_TROUBLE = (DestinationState.WAITING, DestinationState.BLOCKED)


class Account:
    """Keeps `status` for a courier."""

    def __init__(self, settings: DestinationSettings, now_ns: Callable[[], int]) -> None:
        self.status = DestinationStatus(
            settings.name,
            mask_url(settings.endpoint),
            settings.encoding,
            settings.header_names,
            since_ns=now_ns(),
        )
        self._now_ns = now_ns
        self._last_refusal = ""
        self._learnt_notes: list[str] = []
        self._upstream_words: list[str] = []

    def update(self, settings: DestinationSettings) -> None:
        """The settings are new; what was learnt under the old ones is forgotten."""
        status = self.status
        status.endpoint = mask_url(settings.endpoint)
        status.encoding = settings.encoding
        status.header_names = settings.header_names
        self.learnt([])

    def learnt(self, notes: list[str]) -> None:
        """`notes` is what is known now of the encodings that the upstream takes."""
        self._learnt_notes = notes
        self._show_warnings()

    def _show_warnings(self) -> None:
        self.status.warnings = [*self._learnt_notes, *self._upstream_words]

    def delivered(self, outcome: outcomes.Delivered, refused: int, spans: int) -> None:
        """`spans` were delivered but for `refused` of them."""
        status = self.status
        status.delivered_spans += spans - refused
        status.refused_spans += refused
        status.last_success_ns = self._now_ns()
        status.last_status = outcome.status
        message = outcome.message
        # Said once: an upstream may say it with every batch.
        if refused and message != self._last_refusal:
            log.warning(
                "spans_refused",
                destination=status.name,
                refused=refused,
                spans=spans,
                words=message,
            )
            self._last_refusal = message
        elif message and not refused and message not in self._upstream_words:
            log.warning("destination_warned", destination=status.name, words=message)
            self._upstream_words = [*self._upstream_words, message][-MAX_WARNINGS:]
            self._show_warnings()

    def set_aside(self, reason: str, spans: int, status: int, words: str) -> None:
        """`spans` became a dead letter."""
        self.status.refused_spans += spans
        log.warning(
            "spans_set_aside",
            destination=self.status.name,
            reason=reason,
            spans=spans,
            status=status,
            words=words,
        )

    def failed(self, state: DestinationState, outcome: outcomes.Wait | outcomes.Blocked) -> int:
        """Count a failure of the kind of `state`; returns how many there were in a row."""
        status = self.status
        status.last_status = outcome.status
        if status.state is not state:
            status.consecutive_failures = 0  # each kind counts its own pauses
        status.consecutive_failures += 1
        self.enter(state, outcome.reason)
        return status.consecutive_failures

    def enter(self, state: DestinationState, reason: str = "") -> None:
        """Keep the state current, and log the transitions that somebody should know of."""
        status = self.status
        before = status.state
        status.reason = reason
        if state is before:
            return
        since_ns, status.since_ns, status.state = status.since_ns, self._now_ns(), state
        if state in HEALTHY:
            status.failing_since_ns = 0
        elif not status.failing_since_ns:
            status.failing_since_ns = status.since_ns
        if state is DestinationState.WAITING:
            log.warning("destination_waiting", destination=status.name, reason=reason)
        elif state is DestinationState.BLOCKED:
            log.error("destination_blocked", destination=status.name, reason=reason)
        elif state is DestinationState.PAUSED:
            log.info("destination_paused", destination=status.name, reason=reason)
        elif before in IN_TROUBLE:
            status.consecutive_failures = 0
            if state is DestinationState.DELIVERING:
                seconds = round((status.since_ns - since_ns) / 1e9, 3)
                log.info(
                    "destination_recovered",
                    destination=status.name,
                    was=before.value,
                    seconds=seconds,
                )
