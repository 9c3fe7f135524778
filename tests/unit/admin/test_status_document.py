"""What the status document says of a destination that has parked spans."""

from relay.admin.status_document import parked_sentences
from relay.model.records import DestinationStatus, ParkedSpan, Position

END = ", each time while others pass; each is still owed and retried alone, next "
NOW_NS = 1_767_225_600_000_000_000


def around(row: int, said: str, seconds: int, spans: int = 1) -> ParkedSpan:
    return ParkedSpan(Position(row), spans, said, b"", next_try_ns=NOW_NS + seconds * 1_000_000_000)


def test_spans_that_fare_alike_are_told_in_one_sentence() -> None:
    parked = (
        around(1, "up answered 500: “boom”", 240),
        around(2, "up: no success within 30 s", -1, spans=2),
        around(3, "up answered 500: “boom”", 120),
    )
    found = parked_sentences(DestinationStatus("up", "", parked=parked), NOW_NS)

    assert found == [
        f"2 spans parked: up answered 500: “boom”{END}in 2 min 0 s",
        f"2 spans parked: up: no success within 30 s{END}at once",
    ]
