"""Values as text, levels, and rows that cannot be read."""

from typing import Any

import pytest

from relay.model.records import BodyFlag, Encoding, Signal, StoredRow
from relay.otlp.messages import AnyValue, ArrayValue, KeyValue, KeyValueList
from relay.otlp.messages_logs import LogRecord
from relay.view.items import Attributes, items_of, level_of, level_word, text_of


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"stringValue": "a"}, "a"),
        ({"intValue": "9223372036854775807"}, "9223372036854775807"),
        ({"boolValue": True}, "true"),
        ({"doubleValue": 0.5}, "0.5"),
        ({"doubleValue": "NaN"}, "NaN"),
        ({"bytesValue": "AQI="}, "AQI="),
        ({"arrayValue": ArrayValue([AnyValue(intValue="1"), AnyValue()])}, "[1,null]"),
        ({"kvlistValue": KeyValueList([KeyValue("k", AnyValue(boolValue=False))])}, '{"k":false}'),
        ({}, ""),
    ],
)
def test_value_as_text(members: dict[str, Any], text: str) -> None:
    assert text_of(AnyValue(**members)) == text


def test_attribute_of_the_item_goes_before_that_of_its_resource() -> None:
    own = [KeyValue("k", AnyValue(stringValue="own"))]
    of_resource = [KeyValue("k", AnyValue(stringValue="other")), KeyValue("r", AnyValue())]

    assert dict(Attributes(own, of_resource)) == {"k": "own", "r": ""}


@pytest.mark.parametrize(
    ("number", "text", "word"),
    [(0, "", ""), (9, "", "info"), (12, "", "info"), (24, "", "fatal"), (0, "WARNING", "warn")],
)
def test_level_of_a_log_record(number: int, text: str, word: str) -> None:
    assert level_word(level_of(LogRecord(severityNumber=number, severityText=text))) == word


@pytest.mark.parametrize("encoding", Encoding)
def test_row_that_cannot_be_read_has_no_items(encoding: Encoding) -> None:
    assert items_of(StoredRow(1, 1, encoding, BodyFlag.NONE, 1, b"\xff{", signal=Signal.LOGS)) == []
