"""What the offload process refuses before it begins."""

import pytest

from relay.ingest.offload.child import MOST_OBJECTS, _refuse_objects
from relay.model.errors import Refusal
from relay.model.records import Encoding


def test_more_objects_than_memory_is_there_for_are_refused_before_they_are_decoded() -> None:
    _refuse_objects(b"{" * MOST_OBJECTS, Encoding.JSON)
    with pytest.raises(Refusal, match="more memory") as refusal:
        _refuse_objects(b"{" * (MOST_OBJECTS + 1), Encoding.JSON)

    assert (refusal.value.status, refusal.value.grpc_code) == (413, 8)
