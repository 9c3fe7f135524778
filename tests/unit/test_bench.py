"""The benchmark: what it makes of what it measured."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import pytest

from tests.bench import chart, fleet, load, programs, quick, report
from tests.bench.processes import LOAD_CORE, server
from tests.bench.results import COLLECTOR, FLEET, OURS, ROTEL, TWO, Results, load_results
from tests.bench.rows import ROWS, Row
from tests.bench.trial import Measured

ROW = ROWS[1]  # 100 JSON: at most 0.55 of rotel, the Collector at least six times ours


def measured(cpu_us: float) -> Measured:
    return Measured(100_000, cpu_us, cpu_us / 2, 1.0, 2.0, 90.0, 10)


def results(ours: list[float], rotel: list[float], collector: list[float]) -> Results:
    found = Results(about={"commit": "abc"})
    for name, costs in ((OURS, ours), (COLLECTOR, collector), (ROTEL, rotel)):
        for number, cpu_us in enumerate(costs):
            found.add(ROW.name, name, number, measured(cpu_us))
    return found


def test_ratio_is_of_two_programs_in_the_same_round() -> None:
    found = results(ours=[4, 40, 400], rotel=[8, 80, 800], collector=[40, 400])

    assert found.ratio(ROW.name, OURS, ROTEL) == 0.5
    assert found.ratio(ROW.name, COLLECTOR, OURS) == 10


def test_run_is_read_as_it_was_kept(tmp_path: Path) -> None:
    found = results([4], [8], [30])
    found.refused = {ROW.name: {"old": "answered {404: 1}"}}

    found.save(tmp_path / "run.json")

    assert load_results(tmp_path / "run.json") == found


def test_run_of_another_version_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    found = results([4], [8], [30])
    found.save(tmp_path / "run.json")
    kept = json.loads((tmp_path / "run.json").read_text())
    ours = kept["trials"][ROW.name][OURS]["0"]
    ours["of_before"] = kept["of_before"] = 7.0
    (tmp_path / "more.json").write_text(json.dumps(kept))
    del ours["p50_ms"]
    (tmp_path / "less.json").write_text(json.dumps(kept))

    assert load_results(tmp_path / "more.json") == found
    for wrong in ("less.json", "none.json", "."):
        with pytest.raises((ValueError, OSError), match=wrong):
            load_results(tmp_path / wrong)


def test_table_marks_what_reaches_its_bar() -> None:
    line = next(
        line
        for line in report.tables(results([4], [8], [16])).splitlines()
        if line.startswith(f"| {ROW.name} | 4.00")
    )

    assert "| **0.50** | 4.00 |" in line


PACED = next(row for row in ROWS if row.pace)


def watched(items_a_second: float, p50_ms: float) -> str:
    """The line of a screen in a run of one round, of a row with a pace."""
    found = Results()
    screens = {"/page/flow": [900.0, p50_ms, 1.0]}
    found.add(PACED.name, OURS, 0, Measured(items_a_second, 4, 2, 1, 2, 90, 10, screens=screens))
    lines = report.tables(found).splitlines()
    return next(line for line in lines if "/page/flow" in line)


def test_table_of_the_page_marks_what_keeps_its_pace_and_answers_in_time() -> None:
    assert watched(960, 99).endswith("| **96%** | `/page/flow` | **99.00** | 900.0 |")
    assert watched(940, 101).endswith("| 94% | `/page/flow` | 101.00 | 900.0 |")


def test_load_with_a_pace_keeps_it_and_sends_other_traces_each_time() -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s"}]}]}]}' % (b"ab" * 16)
    requests = load.with_own_traces([load.request_bytes(0, body)] * 2)
    first, second, third = (next(requests) for _ in range(3))
    assert len({first, second, third}) == 3
    assert len(first) == len(third) == len(load.request_bytes(0, body))
    with server("swallow", LOAD_CORE) as (port, _pid):
        result = load.run_paced([port], requests, a_second=200, connections=4, total=40)

    assert result.statuses == {200: 40}
    assert 0.19 < result.seconds < 5


def test_page_keeps_what_stands_around_the_tables(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")

    report.write(page, "new")

    assert page.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"


def test_page_without_a_place_for_the_tables_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a page\n")

    with pytest.raises(ValueError, match="no place"):
        report.write(page, "new")


def of_fleet(one: float, two: float, brokers_us: float) -> Results:
    row, found = next(each for each in ROWS if each.is_fleet), Results()
    found.add(row.name, OURS, 0, measured(4.0))
    for relays, (name, cpu_us) in enumerate(((FLEET, one), (TWO, two)), 1):
        seen = replace(measured(cpu_us), brokers_us=brokers_us, relays=relays)
        found.add(row.name, name, 0, replace(seen, idle_cores=0.02 * relays, clock_us=relays))
    return found


@pytest.mark.parametrize(("two", "times"), [(10.0, "**2.00**"), (12.5, "1.60")])
def test_two_relays_are_told_on_paper_with_what_brokers_need_for_them(
    two: float, times: str
) -> None:
    text = report.everything(of_fleet(10.0, two, 20.0))

    assert "| 100 JSON | relay of a fleet | 10.0 | 2.50 | 20.0 |" in text
    together = 2_000_000 / two
    assert f"takes 100,000 spans a second, two take {together:,.0f}, {times} times" in text
    assert f"need {20 * together / 1e6:.1f} cores" in text


@pytest.mark.parametrize(("two", "times"), [(10.0, "**2.25**"), (13.0, "1.64")])
def test_what_goes_by_the_clock_is_taken_off_a_core_once(two: float, times: str) -> None:
    text = report.everything(of_fleet(10.0, two, 20.0))

    both = f"108,889 and {1.96e6 / (two - 2):,.0f}"  # of 980,000 µs each, 9 µs a span for one
    assert f"(2.0% of a core a relay) counted once, not for each span: {both}, {times}" in text


def test_page_keeps_what_the_run_did_not_measure(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"{report.BEGIN}\nold\n{report.END}\n{report.BEGIN_FLEET}\nold too\n{report.END}\n"
    )

    assert report.write_all(page, of_fleet(10.0, 11.0, 20.0)) == [report.BEGIN_FLEET]
    assert page.read_text().startswith(f"{report.BEGIN}\nold\n{report.END}\n")
    assert "old too" not in page.read_text()

    assert report.write_all(page, results([4], [8], [16])) == [report.BEGIN]
    assert "relay of a fleet" in page.read_text()


def test_rows_of_the_fleet_are_left_out_with_a_word_where_there_is_no_java(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")

    with fleet.brokers() as brokers:
        assert brokers is None

    assert "no java and no mvn here: the rows of the fleet are left out" in capsys.readouterr().out


def test_picture_has_a_bar_for_each_program() -> None:
    root = ET.fromstring(chart.draw(results([4], [8], [40])))  # noqa: S314 - our own

    words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word in {"0.50", "1.00", "5.00"}] == ["0.50", "1.00", "5.00"]


def test_loss_names_the_row_and_the_stage_that_grew() -> None:
    before = {"whole": 4.0, "HTTP": 1.0, "prepare": 1.0, "writer": 1.0, "way out": 1.0}
    now = {"whole": 6.2, "HTTP": 1.1, "prepare": 1.0, "writer": 3.1, "way out": 1.0}

    (loss,) = quick.judge({"a": now, "b": before}, {"a": before, "b": before})

    assert loss.startswith("a: 6.20 times the null server, which is 155% of the 4.00")
    assert loss.endswith("look at the stage “writer”")


def test_less_than_half_as_much_again_is_no_loss_but_more_than_a_quarter_is_told() -> None:
    before = {"whole": 4.0, "HTTP": 1.0}

    assert quick.judge({"a": {"whole": 5.9, "HTTP": 1.9}}, {"a": before}) == []
    assert quick.judge({"a": {"whole": 5.1, "HTTP": 1.9}}, {"a": before}, quick.TOLD_LOSS)
    assert not quick.judge({"a": {"whole": 4.9, "HTTP": 1.9}}, {"a": before}, quick.TOLD_LOSS)


def test_what_seems_lost_is_measured_once_more_and_only_then_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = quick.expected()["pure"]
    found: list[dict[str, float]] = []

    def one_round(_: object, rows: list[tuple[Row, list[bytes]]]) -> dict[str, quick.Stages]:
        times = found.pop(0)
        return {
            row.name: {name: value * times[row.name] for name, value in known[row.name].items()}
            for row, _ in rows
        }

    monkeypatch.setattr(quick, "one_round", one_round)
    monkeypatch.setattr(quick, "peak_mib", lambda _: 100.0)
    monkeypatch.setenv("RELAY_PURE", "1")
    usual = dict.fromkeys(quick.NAMES, 1.0)
    first = quick.NAMES[0]

    found[:] = [usual | {first: 1.6}, {first: 1.2}]
    assert quick.run(1, is_to_be_kept=False) == 0
    found[:] = [usual | {first: 1.6}, {first: 1.6}]
    assert quick.run(1, is_to_be_kept=False) == 1
    assert f"{first}: " in capsys.readouterr().out
    assert not found


def test_more_memory_than_allowed_is_a_loss() -> None:
    assert quick.judge_memory(120.0) == []
    assert quick.judge_memory(131.4) == ["512 JSON: the daemon held 131 MiB, allowed are 120"]


def test_expected_figures_cover_every_row_that_is_guarded() -> None:
    expected = quick.expected()

    assert all(set(rows) == set(quick.NAMES) for rows in expected.values())
    assert "pure" in expected


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "larger than what a socket takes"])
def test_load_sends_so_many_requests_and_counts_the_answers(size: int) -> None:
    requests = [load.request_bytes(0, b"x" * size), load.request_bytes(0, b"y" * size)]
    with server("swallow", LOAD_CORE) as (port, _):
        found = load.run(port, requests, total=40, connections=4)

    assert found.statuses == {200: 40}
    assert found.requests == len(found.latencies) == 40


def test_load_over_a_time_ends_with_every_request_answered() -> None:
    with server("swallow", LOAD_CORE) as (port, _):
        found = load.run(port, [load.request_bytes(0, b"{}")], seconds=0.1)

    assert found.requests == found.statuses[200] > 16
    assert found.seconds >= 0.1


class Delivering:
    """A relay that has delivered more with each look."""

    def __init__(self, *looks: dict[str, int]) -> None:
        self._looks = list(looks)
        self.told: Counter[str] = Counter()

    def delivered(self) -> Counter[str]:
        self.told = Counter(self._looks.pop(0) if len(self._looks) > 1 else self._looks[0])
        return self.told


@pytest.mark.parametrize(
    "relay",
    [
        Delivering({}),  # without a destination there is nothing to wait for
        Delivering({"a": 5, "b": 0}, {"a": 5, "b": 5}),
    ],
)
def test_bench_waits_until_every_destination_there_is_has_all(
    relay: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "MOST_SECONDS", 2.0)
    programs.wait_until_delivered([cast("programs.RunningRelay", relay)], 5)

    assert min(relay.told.values(), default=5) == 5
