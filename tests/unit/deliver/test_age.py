"""What an upstream finds too old is found by its time, and costs few requests and one letter."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from relay.config import DestinationConfig
from relay.deliver.batches import Batch
from relay.model.records import Signal
from relay.upstream.outcomes import Blocked, Delivered, Outcome
from tests.support.builders import to_body
from tests.unit.buffer.making import NOW_NS, piece, request
from tests.unit.deliver.delivering import InProcess, delivering

pytestmark = pytest.mark.anyio
COUNT = 64


def times_in(content: bytes) -> list[int]:
    return [
        int(record["timeUnixNano"])
        for entry in json.loads(content)["resourceLogs"]
        for scope in entry["scopeLogs"]
        for record in scope["logRecords"]
    ]


class Loki(InProcess):
    """Refuses all of a request that holds a record from before `oldest`."""

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest
        self.took: list[int] = []
        self.requests = 0

    async def send(self, batch: Batch, headers: Mapping[str, str]) -> Outcome:
        self.requests += 1
        times = times_in(batch.content)
        if min(times) < self.oldest:
            words = "entry too far behind"
            return Blocked("up answered 400", status=400, words=words, about="older")
        self.took += times
        return Delivered(200)


@pytest.mark.parametrize("oldest", [1, 2, 3, 31, 32, 33, COUNT - 1])
async def test_records_that_are_too_old_are_one_dead_letter_and_the_others_arrive(
    tmp_path: Path, oldest: int
) -> None:
    upstream = Loki(oldest)
    terms = DestinationConfig(
        name="up", endpoint="http://127.0.0.1:1/v1/logs", signal=Signal.LOGS, encoding="json"
    )
    records = [{"timeUnixNano": str(at), "body": {"stringValue": "x"}} for at in range(COUNT)]
    body = to_body({"scopeLogs": [{"logRecords": records}]})
    kept = request(piece(body, spans=COUNT, signal=Signal.LOGS), received_ns=NOW_NS)
    async with delivering(tmp_path, terms, [kept], upstream) as at:
        await at.done()
        (letter,) = await at.letters()

    assert sorted(set(upstream.took)) == list(range(oldest, COUNT))
    assert len(upstream.took) <= COUNT - oldest + 6  # what was asked about comes once more
    late = times_in(b'{"resourceLogs":[%b]}' % letter.body)
    assert sorted(late) == list(range(oldest))
    assert letter.words == "entry too far behind"
    # The whole, a search by halves of the times, and the rest at once.
    assert upstream.requests <= 10
