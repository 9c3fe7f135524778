"""What is known of an upstream after it has answered."""

from collections.abc import Callable

from relay.config import DestinationConfig
from relay.deliver.learnt import Learnt
from relay.model.records import Encoding, StoredRow, Taken

Settings = Callable[..., DestinationConfig]
Row = Callable[..., StoredRow]


def test_learnt_encodings_know_nothing_at_first_and_are_kept_by_what_came_in(
    settings: Settings, row: Row
) -> None:
    learnt, fixed = Learnt(settings()), Learnt(settings(encoding="json"))
    json = Taken((row(1),), ())
    protobuf = Taken((row(2, b"", encoding=Encoding.PROTOBUF),), ())
    assert (learnt.encoding_of(json), learnt.notes()) == (Encoding.JSON, [])

    learnt.learn_encoding(Encoding.JSON, Encoding.PROTOBUF, 415)
    fixed.learn_encoding(Encoding.JSON, Encoding.PROTOBUF, 415)

    for taken in (json, protobuf):
        assert learnt.encoding_of(taken) is Encoding.PROTOBUF
    assert fixed.encoding_of(json) is Encoding.JSON
    assert learnt.notes() == ["refuses JSON (415): sent as protobuf"]

    learnt.learn_encoding(Encoding.JSON, Encoding.JSON, 415)
    assert (learnt.encoding_of(json), learnt.notes()) == (Encoding.JSON, [])
