"""Destinations with steps, each a mock collector: real processes, sockets and disk."""

import json
import signal
from pathlib import Path
from typing import Any

from mockcollector.server import MockCollector
from tests.support.builders import protobuf_twin, request, span, text_attribute
from tests.support.relay_process import Relay, eventually

Json = dict[str, Any]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TRACE = "0af7651916cd43dd8448eb211c80319c"


def names_at(collector: MockCollector) -> list[str]:
    return sorted(each.name for each in collector.journal.spans())


def post(relay: Relay, *spans: Json, **more: Any) -> None:
    made = request(*spans, **more)
    assert relay.post(made)[0] == 200
    twin = protobuf_twin(made).SerializeToString()
    assert relay.post(twin, headers=PROTOBUF)[0] == 200


def test_each_destination_gets_what_matches_and_the_rest_is_settled(tmp_path: Path) -> None:
    with MockCollector() as shop, MockCollector() as everything, MockCollector() as nothing:
        destinations: dict[str, Json] = {
            "everything": {"endpoint": everything.endpoint},
            "shop": {
                "endpoint": shop.endpoint,
                "match": 'resource["service.name"] == "shop" && name != "health"',
            },
            "nothing": {"endpoint": nothing.endpoint, "match": 'attributes["gone"] == 1'},
        }
        with Relay(tmp_path, destinations) as relay:
            post(relay, span(name="buy", traceId=TRACE), span(name="health"))
            post(relay, span(name="pay"), service="bank")
            eventually(lambda: len(everything.journal.spans()) == 6)
            eventually(lambda: not any(map(relay.owed, destinations)))
            found = {name: relay.destination(name) for name in destinations}
            _status, metrics = relay.get("/metrics", parse=False)
            where = relay.run("where", TRACE).stdout

        assert names_at(shop) == ["buy", "buy"]
        assert names_at(everything) == ["buy", "buy", "health", "health", "pay", "pay"]
        assert nothing.journal.requests() == []
    assert found["shop"]["filtered_spans"] == {"match": 4}
    assert found["shop"]["delivered_spans"] == 2
    assert found["everything"]["filtered_spans"] == {}
    assert found["nothing"]["filtered_spans"] == {"match": 6}
    assert found["nothing"]["failed_conditions"] == {"match": 6}
    assert "there is no gone" in " ".join(found["nothing"]["warnings"])
    line = 'otlp_relay_filtered_spans_total{destination="shop",signal="traces",step="match"} 4.0'
    assert line in metrics
    assert "filtered   for nothing" in where
    assert "delivered  to shop" in where


def test_a_condition_that_is_wrong_is_told_with_file_key_and_place(tmp_path: Path) -> None:
    destinations = {"d": {"endpoint": "http://127.0.0.1:1/v1/traces", "match": "name =="}}
    relay = Relay(tmp_path, destinations)

    shown = relay.run("check-config")

    assert shown.returncode != 0
    assert "relay.toml: destinations.d.match: is no CEL at line 1, column 8" in (
        shown.stdout + shown.stderr
    )


def test_a_dead_letter_of_a_destination_with_steps_holds_what_was_sent_as_it_was_kept(
    tmp_path: Path,
) -> None:
    with MockCollector(script="partial=1:no such span") as picky:
        destinations = {"picky": {"endpoint": picky.endpoint, "match": 'name != "health"'}}
        with Relay(tmp_path, destinations) as relay:
            made = request(span(name="health"), span(name="buy", traceId=TRACE))
            assert relay.post(made)[0] == 200
            eventually(lambda: relay.run("dead-letter show", "1").returncode == 0)
            shown = relay.run("dead-letter show", "1", "--json").stdout
            assert relay.run("dead-letter replay", "1").returncode == 0
            eventually(lambda: len(picky.journal.spans()) == 1)

    letter = json.loads(shown)
    assert (letter["reason"], letter["affected"], letter["spans"]) == ("upstream_partial", 1, 1)
    assert "health" not in shown
    assert names_at(picky) == ["buy"]


def test_prompts_are_kept_in_one_place_and_out_of_another(tmp_path: Path) -> None:
    prompt = "write to ada@example.org"
    call = [
        text_attribute("gen_ai.prompt", prompt),
        text_attribute("gen_ai.request.model", "small"),
        text_attribute("note", prompt),
    ]
    with MockCollector() as langfuse, MockCollector() as honeycomb:
        destinations: dict[str, Json] = {
            "langfuse": {"endpoint": langfuse.endpoint},
            "honeycomb": {
                "endpoint": honeycomb.endpoint,
                "redact": {"keys": ["gen_ai.prompt"], "patterns": ["email"], "with": "hash"},
            },
        }
        with Relay(tmp_path, destinations) as relay:
            post(relay, span(name="chat", attributes=call, traceId=TRACE))
            eventually(lambda: len(langfuse.journal.spans()) == 2)
            eventually(lambda: len(honeycomb.journal.spans()) == 2)
            eventually(lambda: not any(map(relay.owed, destinations)))
            found = relay.destination("honeycomb")
            assert (tmp_path / "state" / "redaction-key").exists()

        whole = [dict(each.attributes) for each in langfuse.journal.spans()]
        redacted = [dict(each.attributes) for each in honeycomb.journal.spans()]
    assert all(each["gen_ai.prompt"] == each["note"] == prompt for each in whole)
    assert redacted[0] == redacted[1]
    assert redacted[0]["gen_ai.prompt"].startswith("[hash:")
    assert redacted[0]["note"].startswith("write to [hash:")
    assert redacted[0]["gen_ai.request.model"] == "small"
    assert found["changed_spans"] == {"redact": 2}


def test_a_destination_whose_hash_key_cannot_be_read_is_blocked_and_sends_nothing(
    tmp_path: Path,
) -> None:
    with MockCollector() as upstream:
        redact = {"keys": ["x"], "with": "hash"}
        destinations = {"d": {"endpoint": upstream.endpoint, "redact": redact}}
        relay = Relay(tmp_path, destinations)
        key = tmp_path / "state" / "redaction-key"
        key.parent.mkdir(mode=0o700)
        key.write_text("no key")
        with relay:
            post(relay, span(name="a"))
            eventually(lambda: relay.destination("d")["state"] == "blocked")
            assert "holds no key for hashes" in relay.destination("d")["reason"]
            assert not upstream.journal.spans()
            key.unlink()
            relay.run("destination resume", "d")
            eventually(lambda: len(upstream.journal.spans()) == 2)


def test_dead_letters_are_shown_redacted_and_replayed_whole(tmp_path: Path) -> None:
    secret = [text_attribute("password", "hunter2"), text_attribute("note", "to ada@example.org")]
    with MockCollector(script="partial=1:no") as picky, MockCollector() as other:
        redact = {"keys": ["password"], "patterns": ["email"]}
        destinations: dict[str, Json] = {
            "picky": {"endpoint": picky.endpoint, "redact": redact},
            "other": {"endpoint": other.endpoint},
        }
        with Relay(tmp_path, destinations) as relay:
            assert relay.post(request(span(name="a", attributes=secret)))[0] == 200
            eventually(lambda: relay.run("dead-letter show", "1").returncode == 0)
            seen = relay.run("dead-letter show", "1", "--json").stdout
            exported = relay.run("dead-letter export").stdout
            by_page = json.dumps(relay.get("/api/dead-letters/1")[1])
            whole = relay.run("dead-letter show", "1", "--json", "--unredacted").stdout
            relay.stop()
            at_rest = relay.run("dead-letter show", "1", "--json").stdout
            exported_at_rest = relay.run("dead-letter export").stdout
            relay.start()
            assert relay.run("dead-letter replay", "1", "--to", "other").returncode == 0
            eventually(lambda: len(other.journal.spans()) == 2)

        for shown in (seen, exported, by_page, at_rest, exported_at_rest):
            assert "[redacted]" in shown
            assert "hunter2" not in shown
            assert "ada@" not in shown
        assert "hunter2" in whole
        assert dict(other.journal.spans()[1].attributes)["password"] == "hunter2"


def test_show_tells_the_steps_of_a_destination_in_words_and_for_machines(tmp_path: Path) -> None:
    """Those of check-config --explain."""
    steps: Json = {
        "match": 'name != "health"',
        "redact": {"keys": ["password"], "patterns": ["email"]},
        "attributes": {"set": {"team": "shop"}, "delete": ["debug.*"]},
        "sample": {"ratio": 0.1, "keep": 'status == "ERROR"', "wait": "3s"},
    }
    endpoint = "http://127.0.0.1:1/v1/traces"
    relay = Relay(tmp_path, {"all": {"endpoint": endpoint}, "some": {"endpoint": endpoint} | steps})
    shown = relay.run("destination show", "some").stdout
    found = json.loads(relay.run("destination show", "some", "--json").stdout)
    explained = json.loads(relay.run("check-config", "--json").stdout)["destinations"]
    without = relay.run("destination show", "all").stdout

    assert [each["step"] for each in found["steps"]] == ["match", "sample", "redact", "attributes"]
    assert found["steps"] == next(it["steps"] for it in explained if it["name"] == "some")
    assert '  steps            in this order\n    1. match      name != "health"\n' in shown
    assert "    2. sample     0.1 of all traces, and all of a trace with a span of" in shown
    assert "    3. redact     keys password; patterns email; with mask\n" in shown
    assert "    4. attributes delete debug.*; set team to 'shop'\n" in shown
    assert "RedactConfig" not in shown + without
    assert "  steps            none: it gets all as it is\n" in without


def test_dead_letters_of_a_destination_that_has_left_are_not_shown_unless_asked_whole(
    tmp_path: Path,
) -> None:
    secret = [text_attribute("password", "hunter2")]
    with MockCollector(script="partial=1:no") as picky, MockCollector() as other:
        stays: dict[str, Json] = {"other": {"endpoint": other.endpoint}}
        leaves = {"picky": {"endpoint": picky.endpoint, "redact": {"keys": ["password"]}}}
        with Relay(tmp_path, stays | leaves) as relay:
            assert relay.post(request(span(name="a", attributes=secret)))[0] == 200
            eventually(lambda: relay.run("dead-letter show", "1").returncode == 0)
            relay.write_config(stays)
            relay.signal(signal.SIGHUP)
            eventually(lambda: '"reloaded"' in relay.log())
            seen = relay.run("dead-letter show", "1").stdout
            exported = relay.run("dead-letter export")
            by_page = relay.get("/api/dead-letters/1")[1]
            whole = relay.run("dead-letter show", "1", "--json", "--unredacted").stdout
            relay.stop()
            at_rest = relay.run("dead-letter show", "1", "--json").stdout
            relay.start()
            assert relay.run("dead-letter replay", "1", "--to", "other").returncode == 0
            eventually(lambda: len(other.journal.spans()) == 2)

    why = "picky has left the configuration, and what it redacts went with it: put picky back"
    assert f"its spans cannot be shown: {why}, or --unredacted shows it as it is" in seen
    assert (exported.returncode, exported.stdout) == (1, "")
    assert why in exported.stderr
    assert (by_page["resourceSpans"], by_page["bytes"]) == (None, None)
    assert why in by_page["unreadable"]
    for shown in (seen, json.dumps(by_page), at_rest):
        assert "hunter2" not in shown
    assert "hunter2" in whole


def test_what_process_drops_and_redacts_never_reaches_the_disk(tmp_path: Path) -> None:
    canary = "canary-7f3a21"
    settings = f"""
        [process]
        drop = 'name == "health"'
        [process.redact]
        keys = ["password"]
        patterns = ["/{canary[:6]}-[0-9a-f]+/"]
        """
    bad = {**span(name=f"bad {canary}"), "traceId": f"no id {canary}"}
    with MockCollector() as upstream:
        destinations = {"d": {"endpoint": upstream.endpoint}}
        with Relay(tmp_path, destinations, settings=settings) as relay:
            attributes = [text_attribute("password", canary), text_attribute("note", canary)]
            post(relay, span(name="health"), span(name=canary, attributes=attributes))
            post(relay, span(name="health", attributes=attributes), service=canary)
            assert relay.post(request(span(name=f"x {canary}"), bad))[0] == 200
            assert relay.post(request(bad))[0] == 400
            assert relay.post(b'{"resourceSpans": [ "' + canary.encode())[0] == 400
            eventually(lambda: len(upstream.journal.spans()) == 3)
            eventually(lambda: relay.owed("d") == 0)
            found = relay.status()["ingest"]["signals"]["traces"]
            eventually(lambda: "3" in relay.run("dead-letter list", "--all").stdout)
            letters = relay.run("dead-letter export").stdout
            assert relay.stop() == 0
            log = relay.log()

        names = names_at(upstream)
    assert names == ["[redacted]", "[redacted]", "x [redacted]"]
    assert (found["received"], found["kept"]) == (9, 3)
    assert found["processed"] == {"drop": 4, "redact": 3}
    on_disk = b"".join(
        each.read_bytes() for each in (tmp_path / "state").iterdir() if each.is_file()
    )
    assert canary.encode() not in on_disk
    assert canary not in letters
    assert canary not in log


def test_steps_are_explained_and_tried_without_a_daemon(tmp_path: Path) -> None:
    destinations: dict[str, Json] = {
        "plain": {"endpoint": "http://127.0.0.1:1/v1/traces"},
        "shop": {
            "endpoint": "http://127.0.0.1:1/v1/traces",
            "match": 'name != "health"',
            "redact": {"keys": ["password"], "patterns": ["email"]},
            "attributes": {"delete": ["debug.*"], "rename": {"a": "b"}, "set": {"team": "x"}},
        },
    }
    relay = Relay(tmp_path, destinations, settings="[process]\ndrop = 'name == \"gone\"'")
    attributes = [text_attribute("password", "hunter2"), text_attribute("a", "1")]
    made = request(span(name="buy", attributes=attributes), span(name="health"), span(name="gone"))
    (tmp_path / "request.json").write_text(json.dumps(made))
    (tmp_path / "request.bin").write_bytes(protobuf_twin(made).SerializeToString())

    explained = relay.run("check-config", "--explain").stdout
    tried = [
        relay.run("config test", str(tmp_path / file), "--to", "shop")
        for file in ("request.json", "request.bin")
    ]
    as_json = relay.run("config test", str(tmp_path / "request.json"), "--to", "shop", "--json")
    unknown = relay.run("config test", str(tmp_path / "request.json"), "--to", "nobody")

    assert 'process        1. drop       not name == "gone"' in explained
    assert "no steps: it gets all" in explained
    assert '1. match      name != "health"' in explained
    assert "2. redact     keys password; patterns email; with mask" in explained
    assert "3. attributes delete debug.*; rename a to b; set team to 'x'" in explained
    for each in tried:
        assert each.returncode == 0, each.stderr
        (entry,) = json.loads(each.stdout)["resourceSpans"]
        (only,) = entry["scopeSpans"][0]["spans"]
        assert [a["value"]["stringValue"] for a in only["attributes"]] == ["[redacted]", "1"]
        assert only["attributes"][1]["key"] == "b"
        assert text_attribute("team", "x") in entry["resource"]["attributes"]
        assert "1 of 3 spans would be sent to shop" in each.stderr
        assert "filtered: match 1" in each.stderr
        assert "by [process]: drop 1" in each.stderr
    assert json.loads(as_json.stdout)["changed"] == {"attributes": 1, "redact": 1}
    assert unknown.returncode == 1
    assert "there is no destination 'nobody'" in unknown.stderr


def test_tail_shows_what_a_destination_gets(tmp_path: Path) -> None:
    destinations: dict[str, Json] = {
        "all": {"endpoint": "http://127.0.0.1:1/v1/traces"},
        "shop": {
            "endpoint": "http://127.0.0.1:1/v1/traces",
            "match": 'name != "health"',
            "redact": {"patterns": ["email"]},
        },
    }
    with Relay(tmp_path, destinations) as relay:
        post(relay, span(name="to ada@example.org"), span(name="health"))
        shown = {
            name: relay.run("tail", "--no-follow", *(("--as", name) if name else ()))
            for name in ("", "all", "shop", "nobody")
        }

    assert shown[""].stdout == shown["all"].stdout
    assert shown["all"].stdout.count("health") == 2
    assert "ada@" in shown["all"].stdout
    assert shown["shop"].stdout.count("to [redacted]") == 2
    assert "health" not in shown["shop"].stdout
    assert shown["nobody"].returncode == 1
    assert "there is no destination 'nobody'" in shown["nobody"].stderr


def test_where_says_which_steps_change_what_a_destination_gets(tmp_path: Path) -> None:
    with MockCollector() as plain, MockCollector() as clean:
        destinations: dict[str, Json] = {
            "plain": {"endpoint": plain.endpoint},
            "clean": {
                "endpoint": clean.endpoint,
                "redact": {"keys": ["secret"]},
                "attributes": {"set": {"team": "shop"}},
            },
        }
        with Relay(tmp_path, destinations) as relay:
            secret = text_attribute("secret", "canary")
            post(relay, span(traceId=TRACE, attributes=[secret]))
            eventually(lambda: not any(map(relay.owed, destinations)))
            told = json.loads(relay.run("where", TRACE, "--json").stdout)
            lines = relay.run("where", TRACE).stdout.splitlines()

    changed = {each["name"]: each["changed_by"] for each in told["destinations"]}
    assert changed == {"plain": [], "clean": ["attributes", "redact"]}
    (line,) = [line for line in lines if "to clean" in line]
    assert line.endswith("200, changed by attributes, redact")
    (line,) = [line for line in lines if "to plain" in line]
    assert line.endswith(": 200")
