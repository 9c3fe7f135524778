"""What coding agents and SDKs send is added up as each fixture says, and each call once."""

import json
from typing import Any

import pytest

from relay.genai.counted import counted
from relay.genai.rows import steps_of
from relay.genai.summary import groups_of, summary_of
from relay.genai.timeline import timeline_of
from relay.model.records import Encoding, Signal, StoredRow
from relay.otlp import transcode
from tests.support.fixtures import FOLDER
from tests.unit.genai.making import fixture_rows

CLAUDE = ("70_claude", "71_claude", "72_claude")
SESSION = "00000000-0000-4000-8000-0000000000cc"


def expected(name: str) -> dict[str, Any]:
    (path,) = FOLDER.glob(f"{name}*.expect.json")
    summary = dict(json.loads(path.read_text())["summary"])
    del summary["rules"]
    return summary


def summary_in(*names: str) -> dict[str, Any]:
    rows = [row for name in names for row in fixture_rows(name)]
    return summary_of(counted(steps_of(rows)))


def in_protobuf(row: StoredRow) -> StoredRow:
    body = transcode.to_protobuf(row.body, row.signal)
    return StoredRow(row.row, 0, Encoding.PROTOBUF, row.flags, row.items, body, signal=row.signal)


FIXTURES = sorted(
    path.name.removesuffix(".expect.json")
    for path in FOLDER.glob("*.expect.json")
    if "summary" in json.loads(path.read_text())
)


def test_there_are_fixtures_of_every_signal() -> None:
    assert len(FIXTURES) >= 8
    assert {expected(name)["source"] for name in FIXTURES} == {"logs", "metrics", "traces"}


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("encoding", list(Encoding))
def test_summary_of_a_fixture_is_exactly_what_it_says(name: str, encoding: Encoding) -> None:
    rows = fixture_rows(name)
    if encoding is Encoding.PROTOBUF:
        rows = [in_protobuf(row) for row in rows]

    found = summary_of(counted(steps_of(rows)))

    wanted = expected(name)
    assert {key: found.get(key, "missing") for key in wanted} == wanted


@pytest.mark.parametrize("order", [CLAUDE, CLAUDE[::-1]])
def test_a_session_told_by_three_signals_counts_once(order: tuple[str, ...]) -> None:
    found = summary_in(*order)

    assert found["calls"] == 3
    wanted = expected("70_claude")
    for key in ("input_tokens", "output_tokens", "cost_usd", "tools", "prompts", "latency_ms"):
        assert found[key] == wanted[key], key
    assert found["lines"] == {"added": 14, "removed": 3}  # only metrics tell


def test_spans_take_what_they_lack_from_metrics() -> None:
    found = summary_in("71_claude", "72_claude")

    assert (found["calls"], found["cost_usd"], found["calls_without_cost"]) == (3, 0.0349, 0)
    assert found["input_tokens"] == 35313
    assert found["models"]["claude-example-large"]["cost_usd"] == 0.0349
    assert found["tools_refused"] == {"Write": 1}


def test_what_is_received_twice_counts_once() -> None:
    every = [name for name in FIXTURES if not name.startswith("08")]

    assert summary_in(*every, *every) == summary_in(*every)


def test_all_of_them_together_are_the_sum_of_each() -> None:
    apart = [expected(name) for name in FIXTURES if not name.startswith(("71", "72"))]

    found = summary_in(*FIXTURES)

    for key in ("calls", "errors", "input_tokens", "output_tokens"):
        assert found[key] == sum(each[key] for each in apart), key


def test_groups_by_user_and_session_are_those_of_the_sums() -> None:
    steps = counted(steps_of(row for name in FIXTURES for row in fixture_rows(name)))

    whole = summary_of(steps)
    for by in ("model", "provider", "user", "session", "service", "agent"):
        rows = groups_of(steps, by)["groups"]
        assert sum(row["calls"] for row in rows) == whole["calls"], by
        assert sum(row["input_tokens"] or 0 for row in rows) == whole["input_tokens"], by
        assert sum(row["cost_usd"] or 0 for row in rows) == pytest.approx(whole["cost_usd"]), by
    services = {row["name"]: row["service"] for row in groups_of(steps, "session")["groups"]}
    assert services[SESSION] == "claude-code"
    assert services["sess-4"] == "openrouter"
    uses = {row["name"]: row["uses"] for row in groups_of(steps, "tool")["groups"]}
    assert {name: n for name, n in uses.items() if n} == whole["tools"]


def test_a_session_is_a_timeline() -> None:
    steps = counted(steps_of(row for name in CLAUDE for row in fixture_rows(name)))

    found = timeline_of(steps, SESSION)

    assert found is not None
    kinds = ["prompt", "call", "call", "tool", "tool", "refusal", "call", "error"]
    assert [entry["kind"] for entry in found["entries"]] == kinds
    assert found["entries"][4]["is_error"]
    assert found["entries"][2]["first_token_ms"] == 640
    assert found["calls"] == 3
    assert timeline_of(steps, "another") is None


def test_names_of_persons_and_what_they_typed_are_left_out_unless_asked_for() -> None:
    rows = [row for name in FIXTURES for row in fixture_rows(name)]

    def told(*, show_personal: bool) -> str:
        steps = counted(steps_of(rows, show_personal=show_personal))
        sessions = {step.session for step in steps if step.session}
        documents = [summary_of(steps), groups_of(steps, "user")]
        return json.dumps(documents + [timeline_of(steps, each) for each in sessions])

    for hidden in ("dev@example.com", "*** Begin Patch", '{\\"cmd\\"'):
        assert hidden not in told(show_personal=False)
        assert hidden in told(show_personal=True), hidden


def test_a_row_that_is_nothing_of_genai_is_not_even_read() -> None:
    broken = StoredRow(1, 0, Encoding.JSON, fixture_rows("08")[0].flags, 1, b"not JSON at all")

    assert steps_of([broken]) == []
    assert steps_of([StoredRow(1, 0, Encoding.JSON, broken.flags, 1, b"gen_ai. neither")]) == []


def test_signals_are_told_apart() -> None:
    assert {row.signal for name in CLAUDE for row in fixture_rows(name)} == set(Signal)
