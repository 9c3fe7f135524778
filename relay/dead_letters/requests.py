"""Makes of a dead letter the request that it is replayed as, or says why it cannot be.

The body goes the way that it went when it first came: check cuts it into rows, finds its flags and
holds its ids to the rule. What an upstream refused was enriched then; what ingest refused was not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from relay.buffer.values import StoredDeadLetter
from relay.model.errors import Refusal
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Request, Sender, Signal
from relay.otlp.signals import WIRE
from relay.process.check.ids import REASON_WORDS
from relay.process.check.rejections import AllItemsRejected
from relay.process.prepare import Prepare, PrepareSettings

SENDER = Sender("", user_agent="otlp-relay dead-letter replay")
_MALFORMED = (Reason.TRACE_ID_MALFORMED, Reason.SPAN_ID_MALFORMED, Reason.PARENT_SPAN_ID_MALFORMED)
_MISSING = (
    Reason.TRACE_ID_MISSING,
    Reason.TRACE_ID_ZERO,
    Reason.SPAN_ID_MISSING,
    Reason.SPAN_ID_ZERO,
)
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """How letters are to be sent again: `to` empty is to whom each is owed.

    `known` are the destinations of the configuration, with the signals that each gets.
    """

    to: str
    derives: bool
    known: Mapping[str, Collection[Signal]]
    settings: PrepareSettings  # for what was rejected on the way in


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Letters that were passed over for one reason; of many the first ids only."""

    why: str
    letters: int
    ids: list[int]


def left_out(ids_by_reason: Mapping[str, list[int]]) -> list[LeftOut]:
    """How many for each reason, and which."""
    return [LeftOut(why, len(ids), ids[:_MOST_NAMED]) for why, ids in ids_by_reason.items()]


def request_of(stored: StoredDeadLetter, wish: Wish) -> Request | str:
    """The request that `stored` becomes under `wish`, or why it cannot and what would help."""
    letter = stored.letter
    if why := _unsendable(stored) or _unwanted(letter, wish):
        return why
    is_of_ingest = not letter.destination
    # Those of an upstream were prepared when they came: nothing is added a second time.
    settings = PrepareSettings(malformed_ids="reject")
    if is_of_ingest:
        settings = wish.settings
        if wish.derives:
            settings = replace(settings, malformed_ids="derive")
    body = letter.body
    if letter.encoding is Encoding.JSON:
        body = WIRE[letter.signal].json_request % body
    try:
        prepared = Prepare(settings)(body, letter.encoding, SENDER, signal=letter.signal)
    except AllItemsRejected as refusal:
        return _words(refusal.rejected[0].reason)
    except Refusal as refusal:
        return f"its {letter.signal.item}s cannot be read: {refusal.message}"
    if prepared.rejected:
        # Of a letter of an upstream every item was valid when it came, of ingest there is but one.
        return _words(prepared.rejected[0].reason)
    return Request(prepared.pieces, SENDER, letter.received_ns)


def _unwanted(letter: DeadLetter, wish: Wish) -> str:
    """Why it would reach nobody; empty where somebody gets it."""
    name = wish.to or letter.destination
    if name and name not in wish.known:
        return f"{name} is not in the configuration; name another with --to"
    if name and letter.signal not in wish.known[name]:
        return f"{name} gets no {letter.signal.word}; name another with --to"
    return ""


def _unsendable(stored: StoredDeadLetter) -> str:
    """Why nothing can ever be made of its bytes; empty where something may."""
    if stored.is_damaged or stored.letter.reason == Reason.DAMAGED_ON_DISK:
        return (
            "its bytes were damaged on disk, and wrong bytes are never sent; "
            "`dead-letter show ID --json` shows what is left of them"
        )
    letter = stored.letter
    if letter.reason == Reason.VALUE_MALFORMED and letter.encoding is Encoding.PROTOBUF:
        return _words(letter.reason)  # what is kept can be read, but it is not all that came
    if letter.reason == Reason.BODY_UNREADABLE:
        return (
            "it is the body of a request that could not be read, of which there is nothing to "
            "send; `dead-letter show ID --json` has its bytes: correct what sends it"
        )
    return ""


def _words(reason: str) -> str:
    said = REASON_WORDS.get(reason, reason)
    if reason in _MALFORMED:
        return f"{said}; --derive-ids derives a valid id from it"
    if reason in _MISSING:
        return f"{said}: no id can be derived from that; export it, correct it and post it again"
    return f"{said}: export it, correct it and post it again"
