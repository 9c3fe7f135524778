"""What `[process]` asks for: items are dropped and redacted before anything of them is kept.

So it reaches neither the disk nor a dead letter. It fails closed: what cannot be redacted to the
end is rejected, and of its dead letter only the reason is kept. What was rejected by the check is
redacted, too, or where it cannot be read, kept without its contents.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import anyio.to_thread
import msgspec
import structlog
from msgspec.structs import replace as replace_struct

from relay.config.steps import ProcessConfig, RedactConfig
from relay.model.reasons import Reason
from relay.model.records import Encoding, Piece, RejectedItem, Signal
from relay.otlp.ids import trace_ids_of
from relay.otlp.opened import Group, Opened
from relay.otlp.protobuf_mend import ORIGINAL
from relay.otlp.transcode import TranscodeError
from relay.process.prepare import Prepared
from relay.process.steps.condition import Condition
from relay.process.steps.redact import Redact
from relay.process.steps.run import Edit, Filter, Stepped, Steps

log = structlog.stdlib.get_logger(__name__)

# What more than this takes goes to a thread.
THREAD_FROM_BYTES: Final = 32 * 1024
_IDS: Final = ("traceId", "spanId", "parentSpanId")
_SERVICE: Final = "service.name"
FAILED_WORDS: Final = "[process.redact] could not be finished on it"


class Drop:
    """What the condition is true of is not kept."""

    name = "drop"

    def __init__(self, text: str) -> None:
        self.condition = Condition(text)

    def look(self, opened: Opened) -> None:
        """Nothing: each item is judged by itself."""

    def keeps(self, group: Group, item: Any) -> bool:
        """Whether the condition does not hold, or cannot be told."""
        return not self.condition(group, item)


class _OfRejected(Redact):
    """Redacts ids, too: what was rejected may have any text there."""

    def item(self, group: Group, item: Any) -> bool:
        """Redact one item and its ids."""
        is_changed = super().item(group, item)
        if group.encoding is Encoding.JSON:
            for holder in (item, *getattr(item, "links", ()), *getattr(item, "exemplars", ())):
                for name in _IDS:
                    before = getattr(holder, name, "")
                    after = self.redactor.text(before)
                    if after is not before:
                        setattr(holder, name, after)
                        is_changed = True
        return is_changed


class BeforeKept:
    """The steps of `[process]`. Raises ConfigError where the key of its hashes cannot be made."""

    def __init__(self, config: ProcessConfig) -> None:
        filters: list[Filter] = [Drop(config.drop)] if config.drop else []
        edits: list[Edit] = []
        for_rejected: list[Edit] = []
        self._redact: Redact | None = None
        if config.redact:
            self._redact = Redact(config.redact)
            edits.append(self._redact)
            for_rejected.append(_OfRejected(_with_original(config.redact)))
        self._steps = Steps(filters, edits)
        self._for_rejected = Steps(filters, for_rejected)
        self._has_told = False

    @property
    def redacts(self) -> bool:
        """Whether contents that nobody can read must not be kept."""
        return self._redact is not None

    async def prepared(self, prepared: Prepared) -> tuple[Prepared, Counter[str]]:
        """What is kept of a request, and how many items each step dropped or changed."""
        size = sum(len(piece.body) for piece in prepared.pieces)
        work = partial(self._prepared, prepared)
        done = await anyio.to_thread.run_sync(work) if size > THREAD_FROM_BYTES else work()
        self._tell()
        return done

    def at_once(self, prepared: Prepared) -> tuple[Prepared, Counter[str]]:
        """As `prepared`, in whatever thread this is."""
        done = self._prepared(prepared)
        self._tell()
        return done

    def _prepared(self, prepared: Prepared) -> tuple[Prepared, Counter[str]]:
        counts = Counter[str]()
        pieces, failed = [], []
        for piece in prepared.pieces:
            stepped = self._steps.run(piece.body, piece.encoding, piece.signal)
            counts += stepped.filtered + stepped.changed
            if stepped.failed:
                failed.append(_failure(piece, stepped))
            if stepped.items:
                pieces.append(_changed(piece, stepped))
        number = sum(each.items for each in failed)
        rejected = dict(prepared.rejected_by_reason)
        message = prepared.message
        if number:
            rejected[Reason.STEP_FAILED] = number
            message = "; ".join(filter(None, (message, f"{number} not kept: {FAILED_WORDS}")))
        return (
            prepared._replace(
                pieces=tuple(pieces),
                items=sum(piece.items for piece in pieces),
                rejected=(*self.rejected(prepared.rejected), *failed),
                rejected_by_reason=rejected,
                message=message,
            ),
            counts,
        )

    def rejected(self, items: Iterable[RejectedItem]) -> tuple[RejectedItem, ...]:
        """What dead letters may hold of what the check rejected."""
        return tuple(seen for each in items if (seen := self._seen(each)) is not None)

    def _seen(self, item: RejectedItem) -> RejectedItem | None:
        body, text = item.body, item.trace_id
        if self._redact is not None:
            text = self._redact.redactor.text(text)
        if item.reason == Reason.BODY_UNREADABLE:
            return replace(item, body=b"" if self.redacts else body, trace_id=text)
        try:
            stepped = self._for_rejected.run(body, item.encoding, item.signal)
        except TranscodeError:
            return replace(item, body=b"" if self.redacts else body, trace_id=text)
        if stepped.filtered and not stepped.items:
            return None
        return replace(item, body=stepped.body, trace_id=text)

    def _tell(self) -> None:
        condition = self._steps.conditions.get(Drop.name)
        if condition is not None and condition.failures and not self._has_told:
            self._has_told = True
            log.warning("drop_condition_failed", condition=condition.text, reason=condition.failure)


def _with_original(config: RedactConfig) -> RedactConfig:
    # That one holds the bytes of what could not be read: keys cannot be looked for in it.
    return replace_struct(config, keys=(*config.keys, ORIGINAL))


def _failure(piece: Piece, stepped: Stepped) -> RejectedItem:
    """What is told of items that could not be redacted: how many, and no content."""
    return RejectedItem(
        Reason.STEP_FAILED, "", FAILED_WORDS, piece.encoding, b"", stepped.failed, piece.signal
    )


def _changed(piece: Piece, stepped: Stepped) -> Piece:
    """The piece with what is left of it."""
    body = stepped.body
    if body is piece.body:
        return piece
    return replace_struct(
        piece,
        body=body,
        items=stepped.items,
        trace_ids=trace_ids_of(body, piece.encoding, piece.signal),
        services=_services(body, piece.encoding, piece.signal),
    )


def _services(body: bytes, encoding: Encoding, signal: Signal) -> tuple[str, ...]:
    """The services of what is left: one may be gone, or redacted."""
    resources: Sequence[Any] = [group.resource for group in Opened(body, encoding, signal).groups]
    found = dict.fromkeys(
        _text(each.value, encoding)
        for resource in resources
        for each in resource.attributes
        if each.key == _SERVICE
    )
    found.pop("", None)
    return tuple(found)


def _text(value: Any, encoding: Encoding) -> str:
    if encoding is Encoding.PROTOBUF:
        return str(value.string_value)
    if value is msgspec.UNSET or value.stringValue is msgspec.UNSET:
        return ""
    return str(value.stringValue)
