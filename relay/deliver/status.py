"""What people are told of a destination: its status, and the log lines that somebody needs.

Only transitions are logged: a destination that is blocked for a week is two lines.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from relay.config import DestinationConfig
from relay.config.secrets import mask_url
from relay.deliver import pauses
from relay.deliver.batches import Batch
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, DestinationState, DestinationStatus
from relay.upstream import outcomes

if TYPE_CHECKING:
    from relay.process.steps.run import Steps

log = structlog.stdlib.get_logger(__name__)

MAX_WARNINGS = 5
HEALTHY = (DestinationState.IDLE, DestinationState.DELIVERING)
IN_TROUBLE = (DestinationState.WAITING, DestinationState.BLOCKED)


class CourierStatus(DestinationStatus):
    """A destination's status, kept by its courier."""

    def __init__(self, settings: DestinationConfig, now_ns: Callable[[], int]) -> None:
        super().__init__(
            settings.name,
            mask_url(settings.endpoint),
            settings.encoding,
            settings.header_names,
            since_ns=now_ns(),
            signal=settings.signal,
        )
        self._now_ns = now_ns
        self._last_refusal = ""
        self._learnt_notes: list[str] = []
        self._upstream_words: list[str] = []
        self._words_of_settings: list[str] = []

    def update(self, settings: DestinationConfig) -> None:
        """The settings are new; what was learnt under the old ones is forgotten."""
        self.endpoint = mask_url(settings.endpoint)
        self.encoding = settings.encoding
        self.header_names = settings.header_names
        self._words_of_settings = []
        self.failed_conditions.clear()
        self.learnt([])

    def learnt(self, notes: list[str]) -> None:
        """`notes` is what is known now of the encodings that the upstream takes."""
        self._learnt_notes = notes
        self._show_warnings()

    def _show_warnings(self) -> None:
        self.warnings = [*self._learnt_notes, *self._upstream_words, *self._words_of_settings]

    def delivered(self, outcome: outcomes.Delivered, refused: int, items: int) -> None:
        """`items` were delivered but for `refused` of them."""
        self.delivered_items += items - refused
        self.refused_items += refused
        self.last_success_ns = self._now_ns()
        self.last_status = outcome.status
        message = outcome.message
        # Said once: an upstream may say it with every batch.
        if refused and message != self._last_refusal:
            log.warning(
                "spans_refused",
                destination=self.name,
                signal=self.signal.word,
                refused=refused,
                spans=items,
                words=message,
            )
            self._last_refusal = message
        elif message and not refused and message not in self._upstream_words:
            log.warning(
                "destination_warned", destination=self.name, signal=self.signal.word, words=message
            )
            self._upstream_words = [*self._upstream_words, message][-MAX_WARNINGS:]
            self._show_warnings()

    def stepped(self, batch: Batch, steps: "Steps | None") -> None:
        """`batch` is settled: what its steps filtered and changed counts now."""
        self.filtered_items.update(batch.count("filtered"))
        self.changed_items.update(batch.count("changed"))
        if steps is None:
            return
        for name, condition in steps.conditions.items():
            # Said once: it may be so of each item.
            if condition.failures and name not in self.failed_conditions:
                log.warning(
                    "condition_failed",
                    destination=self.name,
                    signal=self.signal.word,
                    step=name,
                    condition=condition.text,
                    reason=f"{condition.failure}: counted as false",
                )
            if condition.failures:
                self.failed_conditions[name] = condition.failures
                self.condition_words[name] = condition.failure

    def gave_up(self, dead_letter: DeadLetter) -> None:
        """Items became a dead letter."""
        self.refused_items += dead_letter.items
        words = dead_letter.words
        if dead_letter.reason == Reason.TEMPORALITY:
            if words in self._words_of_settings:  # said once: a sender has it in every request
                log.debug(
                    "spans_set_aside_again",
                    destination=self.name,
                    signal=self.signal.word,
                    reason=dead_letter.reason,
                    spans=dead_letter.items,
                )
                return
            self._words_of_settings.append(words)
            self._show_warnings()
        log.warning(
            "spans_set_aside",
            destination=self.name,
            signal=self.signal.word,
            reason=dead_letter.reason,
            spans=dead_letter.items,
            status=dead_letter.status,
            words=words,
        )

    def failed(
        self, outcome: outcomes.Wait | outcomes.Blocked, random: Callable[[], float]
    ) -> float:
        """Enter the state that `outcome` leads to; returns for how many seconds to pause."""
        is_wait = isinstance(outcome, outcomes.Wait)
        state = DestinationState.WAITING if is_wait else DestinationState.BLOCKED
        self.last_status = outcome.status
        if self.state is not state:
            self.consecutive_failures = 0  # each kind counts its own pauses
        self.consecutive_failures += 1
        self.enter(state, outcome.reason)
        if isinstance(outcome, outcomes.Wait):
            told_seconds = outcome.retry_after_seconds
            return pauses.wait_seconds(told_seconds, self.consecutive_failures, random)
        return pauses.probe_seconds(self.consecutive_failures, random)

    def enter(self, state: DestinationState, reason: str = "") -> None:
        """Keep the state current, and log the transitions that somebody should know of."""
        before = self.state
        self.reason = reason
        if state is before:
            return
        since_ns, self.since_ns, self.state = self.since_ns, self._now_ns(), state
        if state in HEALTHY:
            self.failing_since_ns = 0
        elif not self.failing_since_ns:
            self.failing_since_ns = self.since_ns
        if state is DestinationState.WAITING:
            log.warning(
                "destination_waiting", destination=self.name, signal=self.signal.word, reason=reason
            )
        elif state is DestinationState.BLOCKED:
            log.error(
                "destination_blocked", destination=self.name, signal=self.signal.word, reason=reason
            )
        elif state is DestinationState.PAUSED:
            log.info(
                "destination_paused", destination=self.name, signal=self.signal.word, reason=reason
            )
        elif before in IN_TROUBLE:
            self.consecutive_failures = 0
            if state is DestinationState.DELIVERING:
                log.info(
                    "destination_recovered",
                    destination=self.name,
                    signal=self.signal.word,
                    was=before.value,
                    seconds=round((self.since_ns - since_ns) / 1e9, 3),
                )
