"""`doctor` shows the daemon's own view first, and ends with 1 when anything is wrong."""

import json
from pathlib import Path
from typing import Any

from mockcollector.server import MockCollector
from tests.support.builders import request, span
from tests.support.ports import free_port
from tests.support.relay_process import Relay, eventually


def findings(relay: Relay) -> tuple[int, list[dict[str, Any]]]:
    shown = relay.run("doctor", "--json")
    return shown.returncode, json.loads(shown.stdout)["relay"]


def found(relay: Relay, name: str, state: str) -> list[str]:
    _, every = findings(relay)
    return [each["found"] for each in every if (each["name"], each["state"]) == (name, state)]


def test_daemon_says_first_what_it_sees_and_who_was_seen_last(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        both = {"endpoint": upstream.endpoint, "signals": ["traces", "logs"]}
        with Relay(tmp_path, {"up": both}) as relay:
            assert relay.post(request(span(), service="shop"))[0] == 200
            record = {"timeUnixNano": "1", "body": {"stringValue": "x"}}
            logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
            assert relay.post(logs, path="/v1/logs")[0] == 200
            upstream.journal.wait_for_spans(1)
            eventually(lambda: relay.owed("up") == 0)
            code, every = findings(relay)
            services = found(relay, "service", "ok")
            (last,) = found(relay, "requests", "ok")
            clock = found(relay, "clock", "warning")

    assert code == 0, every
    assert next(each["name"] for each in every) == "daemon"
    assert services[0].startswith("without a name: logs last seen ")
    assert services[1].startswith("shop: traces last seen ")
    assert services[1].endswith(" ago, from 127.0.0.1")
    assert last.startswith("the last was kept ")
    assert any("1 log record with a time before 2000" in each for each in clock)


def test_each_thing_that_is_wrong_ends_it_with_1(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        up = {"endpoint": upstream.endpoint}
        relay = Relay(tmp_path, {"up": up})
        assert findings(relay)[0] == 1  # none runs
        with relay:
            assert findings(relay)[0] == 0
            assert relay.run("destination pause", "up").returncode == 0
            eventually(lambda: relay.destination("up")["state"] == "paused")
            assert findings(relay)[0] == 1
            assert "otlp-relay destination resume up" in found(relay, "delivery", "failed")[0]
            assert relay.run("destination resume", "up").returncode == 0
            eventually(lambda: findings(relay)[0] == 0)

            right = relay.config.read_text()
            relay.config.write_text(right + "\nwrong = 1\n")
            relay.signal(1)
            eventually(lambda: relay.status()["reload_problem"])
            relay.config.write_text(right)  # a command reads it, the daemon not yet
            (words,) = found(relay, "daemon", "failed") or [""]
            assert words.startswith("reload refused: ")


def test_daemons_environment_counts_and_not_that_of_who_asks(tmp_path: Path) -> None:
    with MockCollector(required_headers={"authorization": "Bearer s3cret"}) as upstream:
        headers = {"Authorization": "Bearer ${env:TOKEN}"}
        up = {"up": {"endpoint": upstream.endpoint, "headers": headers}}
        with Relay(tmp_path, up, environ={"TOKEN": "s3cret"}) as relay:
            relay.environ.clear()
            passed = relay.run("doctor")

    assert passed.returncode == 0, passed.stdout
    assert "accepted: Authorization" in passed.stdout
    assert "s3cret" not in passed.stdout


def test_what_is_tested_is_the_file_as_it_is_now(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        wrong = {"endpoint": f"http://127.0.0.1:{free_port()}/v1/traces"}
        with Relay(tmp_path, {"up": wrong}) as relay:
            before = relay.run("destination test", "up")
            relay.write_config({"up": {"endpoint": upstream.endpoint}})
            mended = relay.run("destination test", "up")
            relay.signal(1)
            eventually(lambda: '"reloaded"' in relay.log())
            after = relay.run("destination test", "up")

    not_yet = "the running daemon has not taken this up yet"
    assert (before.returncode, not_yet in before.stdout) == (1, False)
    assert (mended.returncode, not_yet in mended.stdout) == (0, True)
    assert (after.returncode, not_yet in after.stdout) == (0, False)


def test_port_that_the_relay_itself_holds_is_not_anothers(tmp_path: Path) -> None:
    settings = '[buffer]\nmin_free = "1000TiB"'
    with Relay(tmp_path, settings=settings) as relay:
        assert relay.post(request(span()))[0] == 503
        shown = relay.run("doctor")

    assert "keeps nothing" in shown.stdout
    assert shown.returncode == 1
    assert "accepts connections" in shown.stdout
    assert "another program" not in shown.stdout


def test_refused_request_stays_wrong_for_an_hour_and_is_told_by_where(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.post(request(span()), path="/v1/trace")[0] == 404
        code, _ = findings(relay)
        where = relay.run("where", "f" * 32)

    assert code == 1
    assert where.returncode == 1
    assert "refused: 1 x 404 /v1/trace from 127.0.0.1" in where.stdout
    assert "no request was kept since the start" in where.stdout


def test_next_try_stands_in_status(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1/traces"
    with Relay(tmp_path, {"up": {"endpoint": nobody}}) as relay:
        assert relay.post(request(span()))[0] == 200
        eventually(lambda: relay.destination("up")["next_try_at"])
        title, row = (
            line.split("\t") for line in relay.run("status").stdout.splitlines() if "\t" in line
        )
        told = dict(zip(title, row, strict=True))

    assert told["STATE"] == "waiting"
    assert told["NEXT TRY"].startswith("20")
    assert told["OLDEST"] != "-"
