"""Keep what is given up, with the reason why: the dead letter of it, which nobody sends again."""

import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from relay.config import DestinationConfig
from relay.deliver.batches import THREAD_FROM_BYTES, Batch, joined
from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding, Signal, StoredRow, Taken
from relay.model.units import format_duration
from relay.otlp.ids import trace_ids_of
from relay.upstream import outcomes

_MOST_FRAMES = 12


class Content(NamedTuple):
    """What a dead letter holds: a fragment, and how many items are in it."""

    encoding: Encoding
    body: bytes
    items: int


async def of_partial_success(
    name: str, taken: Taken, batch: Batch, outcome: outcomes.Delivered, refused: int
) -> DeadLetter:
    """The batch of which the upstream refused so many spans and did not say which."""
    words = f"{refused} of {batch.items} refused, not known which"
    if outcome.message:
        words += f": {outcome.message}"
    made = await _of_rows(name, Reason.UPSTREAM_PARTIAL, words, taken.rows, batch)
    return replace(made, status=outcome.status, affected=refused)


async def of_refusal(
    name: str, taken: Taken, batch: Batch | None, refusal: outcomes.Blocked
) -> DeadLetter:
    """What was found to be refused for itself, with the words of the refusal."""
    if isinstance(refusal, outcomes.Faulty):
        reason = Reason.RELAY_ERROR
    else:
        is_too_large = refusal.status == outcomes.TOO_LARGE
        reason = Reason.TOO_LARGE if is_too_large else Reason.UPSTREAM_REFUSED
    words = refusal.words or refusal.said or refusal.reason
    return replace(await _of_rows(name, reason, words, taken.rows, batch), status=refusal.status)


async def of_left_out(name: str, taken: Taken, batch: Batch) -> list[DeadLetter]:
    """What was not sent with the rest of the batch, one for each reason."""
    return [
        replace(
            await _letter(
                name,
                each.why.reason,
                each.why.words,
                taken.rows[0],
                Content(each.encoding, each.fragment, each.items),
            ),
            status=each.why.status,
        )
        for each in batch.left_out
    ]


async def of_age(
    settings: DestinationConfig, taken: Taken, max_age_seconds: float, now_ns: int
) -> list[DeadLetter]:
    """What was received too long ago to be sent, one for each encoding in it."""
    made = []
    for encoding in Encoding:
        rows = [row for row in taken.rows if row.encoding is encoding]
        if not rows:
            continue
        age_seconds = max((now_ns - rows[0].received_ns) // 10**9, 0)  # the wall clock may jump
        words = (
            f"received {format_duration(age_seconds)} ago, and {settings.name} is sent nothing "
            f"older than {format_duration(max_age_seconds)} (max_age)"
        )
        made.append(await _of_rows(settings.name, Reason.TOO_OLD, words, rows))
    return made


async def _of_rows(
    name: str, reason: str, words: str, rows: Sequence[StoredRow], batch: Batch | None = None
) -> DeadLetter:
    """`rows`, which are of one encoding, or were sent as `batch`."""
    if batch is None:
        content = Content(rows[0].encoding, _fragment(rows), sum(row.items for row in rows))
    else:
        content = Content(*batch.originals(), batch.items)
    return await _letter(name, reason, words, rows[0], content)


async def _letter(
    name: str, reason: str, words: str, first: StoredRow, content: Content
) -> DeadLetter:
    """`content`, of rows of which `first` is the first."""
    return DeadLetter(
        destination=name,
        reason=reason,
        words=words,
        items=content.items,
        encoding=content.encoding,
        body=content.body,
        affected=content.items,
        trace_ids=await _trace_ids(content.body, content.encoding, first.signal),
        row=first.row,
        received_ns=first.received_ns,
        signal=first.signal,
    )


def words_of(error: BaseException) -> str:
    """The kind of an exception and the lines it came through, the innermost first.

    Neither its text nor any value: they may hold parts of a body.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    lines = [f"{_short(frame.filename)}:{frame.lineno}" for frame in reversed(frames)]
    return f"{type(error).__name__} at {', '.join(lines) or 'a place unknown'}"


def _short(filename: str) -> str:
    """A file by the names that say something: its package and what is below."""
    parts = Path(filename).parts
    for root in ("relay", "site-packages"):
        if root in parts:
            at = len(parts) - 1 - parts[::-1].index(root)
            return "/".join(parts[at:])
    return parts[-1] if parts else filename


def _fragment(rows: Sequence[StoredRow]) -> bytes:
    """Of rows of one encoding."""
    return joined((row.body for row in rows), rows[0].encoding)


async def trace_ids_of_rows(rows: Sequence[StoredRow]) -> bytes:
    """The distinct trace ids of rows of one encoding, packed; empty for what cannot be read."""
    return await _trace_ids(_fragment(rows), rows[0].encoding, rows[0].signal)


async def _trace_ids(body: bytes, encoding: Encoding, signal: Signal) -> bytes:
    if len(body) > THREAD_FROM_BYTES:
        return await anyio.to_thread.run_sync(trace_ids_of, body, encoding, signal)
    return trace_ids_of(body, encoding, signal)
