"""What is known of an upstream after it has answered."""

from collections.abc import Callable

from relay.deliver.learnt import Learnt
from relay.model.records import Encoding, StoredRow, Taken
from relay.upstream.settings import DestinationSettings

Settings = Callable[..., DestinationSettings]
Row = Callable[..., StoredRow]


def test_learnt_encodings_know_nothing_at_first_and_are_kept_by_what_came_in(
    settings: Settings, row: Row
) -> None:
    learnt, fixed = Learnt(settings()), Learnt(settings(encoding="json"))
    encodings = learnt.encodings
    json_row, protobuf_row = row(1), row(2, b"", encoding=Encoding.PROTOBUF)
    assert (encodings.sent_as(Encoding.JSON), encodings.notes()) == (Encoding.JSON, [])

    encodings.learn(Encoding.JSON, Encoding.PROTOBUF, 415)
    fixed.encodings.learn(Encoding.JSON, Encoding.PROTOBUF, 415)

    for one in (json_row, protobuf_row):
        assert learnt.encoding_of(Taken((one,), ())) is Encoding.PROTOBUF
    assert fixed.encoding_of(Taken((json_row,), ())) is Encoding.JSON
    assert encodings.notes() == ["refuses JSON (415): sent as protobuf"]

    encodings.learn(Encoding.JSON, Encoding.JSON, 415)
    assert (encodings.sent_as(Encoding.JSON), encodings.notes()) == (Encoding.JSON, [])
