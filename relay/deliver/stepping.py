"""Rows as a destination with steps gets them, and what became of each item of the original.

What is owed stays counted by the original items: a row that is cut, searched or sent again is
stepped anew from what is on disk, and dead letters keep originals, so that a replay is stepped as
everything else. Pure.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.deliver.left_out import Judge, LeftOut, Why
from relay.model.reasons import Reason
from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp import transcode
from relay.otlp.split import pick_items
from relay.process.steps.run import FAILED, Steps

NOT_FINISHED = Why(
    Reason.STEP_FAILED,
    "a step of this destination could not be finished on it, so it was not sent as it was",
)


@dataclass(frozen=True, slots=True)
class SteppedRow:
    """A row after its steps: `row` is what is sent of `original`, if it has items at all.

    `is_sent` tells of each item of the original whether it is in `row`.
    """

    row: StoredRow
    original: StoredRow
    is_sent: Sequence[bool]
    left_out: Sequence[LeftOut]
    filtered: Counter[str]
    changed: Counter[str]


def step_row(row: StoredRow, steps: Steps, judges: Sequence[Judge]) -> SteppedRow:
    """Step `row`, and leave out what one of `judges` speaks against.

    Raises TranscodeError when its body is not what this relay writes.
    """
    encoding, signal = row.encoding, row.signal
    stepped = steps.run(row.body, encoding, signal)
    fates: list[str | Why] = [NOT_FINISHED if fate == FAILED else fate for fate in stepped.fates]
    body = stepped.body
    for judge in judges if stepped.items else ():
        verdicts = judge(body, encoding, signal)
        places = [at for at, fate in enumerate(fates) if fate == ""]
        if any(verdicts):
            body = pick_items(body, encoding, [each is None for each in verdicts], signal)
            for place, why in zip(places, verdicts, strict=True):
                fates[place] = why or ""
    sent = [fate == "" for fate in fates]
    whys = [why for why in dict.fromkeys(fates) if isinstance(why, Why)]
    return SteppedRow(
        replace(row, body=body if any(sent) else b"", items=sum(sent)),
        row,
        sent,
        [
            LeftOut(
                why,
                pick_items(row.body, encoding, [fate == why for fate in fates], signal),
                fates.count(why),
                encoding,
            )
            for why in whys
        ],
        stepped.filtered,
        stepped.changed,
    )


def originals(rows: Sequence[SteppedRow]) -> tuple[Encoding, list[bytes]]:
    """The originals of what was sent of `rows`, as fragments of one encoding: JSON where they are
    mixed, since nothing of the schema is lost in it at any depth.
    """
    kept = [each for each in rows if each.row.items]
    encodings = {each.original.encoding for each in kept}
    encoding = Encoding.PROTOBUF if encodings == {Encoding.PROTOBUF} else Encoding.JSON
    return encoding, [_original(each, encoding, each.original.signal) for each in kept]


def _original(stepped: SteppedRow, encoding: Encoding, signal: Signal) -> bytes:
    row = stepped.original
    body = row.body
    if not all(stepped.is_sent):
        body = pick_items(body, row.encoding, stepped.is_sent, signal)
    return body if row.encoding is encoding else transcode.to_json(body, signal)
