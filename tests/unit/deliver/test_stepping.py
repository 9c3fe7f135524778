"""Rows through the steps of a destination: what is sent, what is set aside, what stays counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.deliver.left_out import Why
from relay.deliver.stepping import NOT_FINISHED, originals, step_row
from relay.model.reasons import Reason
from relay.model.records import BodyFlag, Encoding, Signal, StoredRow
from relay.otlp.split import pick_items
from relay.process.steps.run import FAILED, Stepped
from tests.unit.process.steps.items import encoded, entries, span, spans

JSON, PROTOBUF = Encoding.JSON, Encoding.PROTOBUF
OLD = Why(Reason.UPSTREAM_REFUSED, "too old", 400)


@dataclass
class Fated:
    """Steps that do with each item what was decided for it."""

    fates: Sequence[str]

    def run(self, body: bytes, encoding: Encoding, signal: Signal) -> Stepped:
        kept = pick_items(body, encoding, [fate == "" for fate in self.fates], signal)
        changed = Counter({"redact": self.fates.count("")})
        return Stepped(kept, self.fates.count(""), self.fates, changed)


def row_of(count: int, encoding: Encoding) -> StoredRow:
    body = encoded(spans(*(span(n, name=f"span {n}") for n in range(count))), encoding)
    return StoredRow(7, 5, encoding, BodyFlag.NONE, count, body)


def names(body: bytes, encoding: Encoding) -> list[str]:
    return [
        each["name"]
        for entry in entries(body, encoding)
        for scope in entry["scopeSpans"]
        for each in scope["spans"]
    ]


def old(*which: str) -> Any:
    def judge(body: bytes, encoding: Encoding, _signal: Signal) -> list[Why | None]:
        return [OLD if name in which else None for name in names(body, encoding)]

    return judge


@pytest.mark.parametrize("encoding", Encoding)
@given(fates=st.lists(st.sampled_from(["", "", "match", FAILED, "old"]), min_size=1, max_size=8))
def test_each_item_is_sent_filtered_or_set_aside(encoding: Encoding, fates: list[str]) -> None:
    row = row_of(len(fates), encoding)
    named = [f"span {n}" for n in range(len(fates))]
    late = [name for name, fate in zip(named, fates, strict=True) if fate == "old"]
    steps: Any = Fated(["" if fate == "old" else fate for fate in fates])
    found = step_row(row, steps, [old(*late)])

    sent = [name for name, fate in zip(named, fates, strict=True) if not fate]
    assert names(found.row.body, encoding) == sent
    assert (found.row.items, found.original) == (len(sent), row)
    assert found.is_sent == [not fate for fate in fates]
    assert found.filtered == Counter({"match": fates.count("match")} if "match" in fates else {})
    assert found.changed == Counter({"redact": len(sent) + len(late)})
    told = {each.why: (names(each.fragment, each.encoding), each.items) for each in found.left_out}
    failed = [name for name, fate in zip(named, fates, strict=True) if fate == FAILED]
    expected = {OLD: (late, len(late)), NOT_FINISHED: (failed, len(failed))}
    assert told == {why: each for why, each in expected.items() if each[1]}


def test_judges_speak_one_after_the_other_about_what_is_left() -> None:
    steps: Any = Fated(["", "match", "", ""])
    found = step_row(row_of(4, JSON), steps, [old("span 0"), old("span 3")])
    assert names(found.row.body, JSON) == ["span 2"]
    (told,) = found.left_out
    assert names(told.fragment, JSON) == ["span 0", "span 3"]


def test_nobody_is_asked_about_a_row_of_which_nothing_is_left() -> None:
    steps: Any = Fated(["match", "match"])

    def judge(*_: Any) -> Any:
        raise AssertionError

    assert step_row(row_of(2, JSON), steps, [judge]).row.items == 0


@pytest.mark.parametrize(
    ("encodings", "encoding"),
    [((JSON, JSON), JSON), ((PROTOBUF, PROTOBUF), PROTOBUF), ((PROTOBUF, JSON), JSON)],
)
def test_originals_of_what_was_sent_are_of_one_encoding(
    encodings: tuple[Encoding, ...], encoding: Encoding
) -> None:
    fates = [["", "match", ""], ["", "", ""]]
    rows = [
        step_row(row_of(3, each), Fated(fated), [])  # type: ignore[arg-type]
        for each, fated in zip(encodings, fates, strict=True)
    ]
    of_nothing: Any = Fated(["match"] * 3)
    rows.append(step_row(row_of(3, PROTOBUF if encoding is JSON else JSON), of_nothing, []))
    found, bodies = originals(rows)
    assert found is encoding
    assert [names(body, encoding) for body in bodies] == [
        ["span 0", "span 2"],
        ["span 0", "span 1", "span 2"],
    ]
