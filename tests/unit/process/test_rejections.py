"""What is kept of rejected items, and the places they are told under: all within bounds."""

import pytest

from relay.model.reasons import UNREADABLE_BODY_BYTES
from relay.model.records import Encoding, Signal
from relay.otlp.json_values import Unreadable
from relay.otlp.signals import TRACES
from relay.process.check import rejections
from relay.process.check.rejections import Rejections, unreadable_body

FLAW = ("reason", "name")
LARGE_BYTES = 1 << 20  # of a body that is good for every letter here
SPANS = "resourceSpans[0].scopeSpans[0].spans"


def rejected(count: int, fragment: bytes = b"x", body_bytes: int = LARGE_BYTES) -> Rejections:
    made = Rejections(TRACES, Encoding.JSON, body_bytes)
    for number in range(count):
        made.add(FLAW, (0, 0, number), "ab", lambda: fragment)
    return made


def test_places_count_what_was_taken_out_before_them() -> None:
    gone = [Unreadable((0, 0, at), "", {}) for at in (0, 2, 3)]
    found = Rejections(TRACES, Encoding.JSON, LARGE_BYTES, gone)
    for number in range(3):
        found.add(FLAW, (0, 0, number), "ab", lambda: b"x")
    found.add(FLAW, (0, 1, 0), "ab", lambda: b"x")

    assert [each.path.removesuffix(".name") for each in found.kept] == [
        *(f"{SPANS}[{at}]" for at in (1, 4, 5)),
        "resourceSpans[0].scopeSpans[1].spans[0]",
    ]


def test_all_are_counted_and_the_first_ones_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejections, "MOST_KEPT", 5)
    found = rejected(9)

    assert (len(found), found.counts, len(found.kept)) == (9, {"reason": 9}, 5)
    assert found.paths == {"reason": [f"{SPANS}[{at}].name" for at in range(3)]}


@pytest.mark.parametrize("most_bytes", [11, 20])
def test_those_over_the_bytes_are_not_even_cut_out(
    monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(rejections, "MOST_BYTES_KEPT", most_bytes)
    cut = 0

    def fragment() -> bytes:
        nonlocal cut
        cut += 1
        return bytes(10)

    found = Rejections(TRACES, Encoding.JSON, LARGE_BYTES)
    for number in range(9):
        found.add(FLAW, (0, 0, number), b"\xab", fragment)

    assert (cut, len(found.kept), found.counts) == (2, 2, {"reason": 9})
    assert found.kept[0].trace_id == "ab"
    assert len(found.paths["reason"]) == 3


@pytest.mark.parametrize(
    ("body_bytes", "kept"), [(0, 16), (1056, 16), (1057, 17), (1122, 17), (1123, 18), (9**9, 40)]
)
def test_a_body_makes_no_more_letters_than_its_bytes_are_good_for(
    body_bytes: int, kept: int
) -> None:
    found = rejected(40, bytes(8), body_bytes)  # 264 bytes each, beside four times the body

    assert len(found.kept) == kept
    assert len(found) == 40


def test_a_letter_more_is_made_while_a_single_byte_is_left() -> None:
    body_bytes = 1118  # four times as many are one more than 17 letters of 263 bytes

    assert len(rejected(40, bytes(7), body_bytes).kept) == 18


@pytest.mark.parametrize("more", [0, 1], ids=["whole", "cut"])
def test_body_that_could_not_be_read_says_how_much_of_it_is_kept(more: int) -> None:
    size = UNREADABLE_BODY_BYTES
    found = unreadable_body(bytes(size + more), Encoding.JSON, "no JSON", Signal.TRACES)

    path = f"the first {size:,} of {size + more:,} bytes" if more else ""
    assert (len(found.body), found.path, found.items) == (size, path, 0)
