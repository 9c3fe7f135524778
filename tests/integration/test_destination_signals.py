"""`otlp-relay destination …` for logs and metrics: tested, asked about, saved and shown."""

import json
import tomllib
from pathlib import Path

from mockcollector.server import MockCollector
from tests.support.destination_commands import add, on_terminal, run, saved_file
from tests.support.load import request_of, span_ids
from tests.support.relay_process import Relay, eventually

CANARY = "canary-5f1c-right"
AUTHORIZED = {"Authorization": f"Bearer {CANARY}"}
TYPED = ("--header", f"Authorization=Bearer {CANARY}")
REFERENCE = ("--header", "Authorization=Bearer ${env:UP_TOKEN}")


def items(upstream: MockCollector) -> tuple[int, int, int]:
    """How many spans, log records and data points came."""
    counts = upstream.journal.counts
    return counts.spans_accepted, counts.log_records_accepted, counts.data_points_accepted


def test_each_signal_that_is_named_is_tested_with_what_needs_the_token(tmp_path: Path) -> None:
    with MockCollector(required_headers=AUTHORIZED) as upstream:
        relay = Relay(tmp_path)
        signals = ("--signals", "metrics,traces,logs")
        arguments = ("add", "up", "--endpoint", upstream.endpoint, *TYPED, *signals)
        shown = run(relay, *arguments)

        assert shown.returncode == 0, shown.stderr
        table = tomllib.loads(saved_file(relay, "up").read_text())
        assert table["signals"] == ["traces", "logs", "metrics"]
        assert items(upstream) == (0, 1, 1)
        for word in ("traces: http", "logs: http", "metrics: http", "the test data point was"):
            assert word in shown.stdout


def test_signal_that_fails_saves_nothing_and_says_what_would_be_saved(tmp_path: Path) -> None:
    with MockCollector(profile="loki") as upstream:
        relay = Relay(tmp_path)
        endpoint = upstream.endpoint_of("logs").removesuffix("/v1/logs") + "/v1/traces"
        arguments = ("add", "up", "--endpoint", endpoint)
        failed = run(relay, *arguments, "--signals", "traces,logs,metrics")

        assert failed.returncode == 1
        assert "passed for logs: `--signals logs`" in failed.stderr
        assert "traces: " in failed.stderr
        assert not saved_file(relay, "up").exists()
        again = run(relay, *arguments, "--signals", "logs", "--json")
        assert again.returncode == 0, again.stderr
        assert tomllib.loads(saved_file(relay, "up").read_text())["signals"] == ["logs"]
        assert json.loads(again.stdout)["hint"] == ""


def test_without_a_terminal_the_hint_says_what_else_could_be_sent(tmp_path: Path) -> None:
    with MockCollector() as upstream, MockCollector(profile="jaeger") as jaeger:
        relay = Relay(tmp_path)
        shown = run(relay, "add", "up", "--endpoint", upstream.endpoint)
        odd = run(relay, "add", "odd", "--endpoint", upstream.base_url + "/odd", "--save-anyway")
        only = run(relay, "add", "j", "--preset", "jaeger", "--endpoint", jaeger.endpoint)

        assert "it may take logs and metrics, too: `--signals traces,logs,metrics" in shown.stdout
        assert "signals" not in tomllib.loads(saved_file(relay, "up").read_text())
        assert items(upstream) == (0, 0, 0)
        assert only.returncode == 0, only.stderr
        assert "--signals" not in odd.stdout + only.stdout


def test_signals_are_shown_with_the_endpoint_of_each(tmp_path: Path) -> None:
    with MockCollector() as upstream:
        relay = Relay(tmp_path)
        add(relay, "up", upstream, "--signals", "traces,logs")
        listed = json.loads(run(relay, "list", "--json").stdout)["destinations"][0]
        shown = run(relay, "show", "up").stdout

        urls = {word: upstream.endpoint_of(word) for word in ("traces", "logs")}
        assert listed["endpoints"] == urls
        assert "traces, logs" in run(relay, "list").stdout
        assert [f"{word} to {url}" in shown for word, url in urls.items()] == [True, True]
        assert "logs_endpoint" not in shown
        assert "/v1/traces, /v1/logs, no token" in relay.run("check-config").stdout


def test_typed_header_of_a_signal_is_hinted_at_and_shown_as_the_preset_says(tmp_path: Path) -> None:
    with MockCollector(profile="axiom", token=CANARY) as upstream:
        relay = Relay(tmp_path)
        arguments = ["add", "ax", "--preset", "axiom", "--endpoint", upstream.endpoint]
        arguments += [*REFERENCE, "--header", "X-Axiom-Dataset=traces", "--signals"]
        arguments += ["traces,logs,metrics", "--metrics-header", "X-Axiom-Metrics-Dataset=points"]
        added = run(
            relay, *arguments, "--logs-header", "X-Api-Key=key5", environ={"UP_TOKEN": CANARY}
        )
        shown = run(relay, "show", "ax").stdout

        assert added.returncode == 0, added.stderr
        assert "the value of X-Api-Key is in the file" in added.stdout
        assert "metrics header X-Axiom-Metrics-Dataset: points" in shown
        assert "logs header X-Api-Key: ***" in shown


def test_tests_of_several_signals_are_one_document_by_name(tmp_path: Path) -> None:
    with MockCollector(profile="loki") as upstream:
        table = {
            "endpoint": "http://127.0.0.1:1/v1/traces",
            "logs_endpoint": upstream.endpoint,
            "signals": ["traces", "logs"],
            "timeout": "2s",
        }
        relay = Relay(tmp_path, {"up": table})
        shown = run(relay, "test", "up", "--json")
        doctor = relay.run("doctor", "up", "--json")
        words = relay.run("doctor", "up")

        document = json.loads(shown.stdout)
        assert shown.returncode == doctor.returncode == 1
        assert not document["passed"]
        assert "refused" in document["wrong"]
        assert {word: each["passed"] for word, each in document["signals"].items()} == {
            "traces": False,
            "logs": True,
        }
        by_name = json.loads(doctor.stdout)["destinations"]
        assert by_name["up"].keys() == document.keys()
        assert "logs: http" in words.stdout


def test_terminal_is_asked_whether_to_send_what_else_passed(tmp_path: Path) -> None:
    with MockCollector(required_headers=AUTHORIZED) as upstream:
        relay = Relay(tmp_path)
        arguments = ["add", "up", "--endpoint", upstream.endpoint, *TYPED]
        question = "Also send logs and metrics there? [y/N]: "
        code, screen = on_terminal(relay, arguments, [(question, "y")])

        assert code == 0, screen
        table = tomllib.loads(saved_file(relay, "up").read_text())
        assert table["signals"] == ["traces", "logs", "metrics"]
        assert "--replace" not in screen


def test_terminal_is_not_asked_to_send_what_is_refused_or_thrown_away(tmp_path: Path) -> None:
    with MockCollector(profile="langfuse") as langfuse, MockCollector(profile="tempo") as tempo:
        answers = [("(pk-lf-…:sk-lf-…): ", langfuse.headers["Authorization"])]
        relay = Relay(tmp_path)
        arguments = ["add", "l", "--preset", "langfuse", "--endpoint", langfuse.endpoint]
        by_preset = on_terminal(relay, arguments, answers)
        by_test = on_terminal(relay, ["add", "t", "--endpoint", tempo.endpoint], [])

        for name, (code, screen) in (("l", by_preset), ("t", by_test)):
            assert code == 0, screen
            assert "Also send" not in screen
            assert "signals" not in tomllib.loads(saved_file(relay, name).read_text())
        assert "whether it takes" not in by_preset[1]
        assert "whether it takes logs, too" in by_test[1]


def test_terminal_is_asked_for_the_headers_of_the_signals_it_names(tmp_path: Path) -> None:
    with MockCollector(profile="axiom", token=CANARY) as upstream:
        relay = Relay(tmp_path)
        arguments = ["add", "ax", "--preset", "axiom", "--endpoint", upstream.endpoint]
        answers = [("(xaat-…): ", CANARY), ("X-Axiom-Dataset: ", "traces")]
        answers += [("X-Axiom-Metrics-Dataset: ", "metrics")]
        code, screen = on_terminal(relay, [*arguments, "--signals", "traces,metrics"], answers)

        assert code == 0, screen
        table = tomllib.loads(saved_file(relay, "ax").read_text())
        assert table["metrics_headers"] == {"X-Axiom-Metrics-Dataset": "metrics"}
        assert table["signals"] == ["traces", "metrics"]


def test_add_says_which_signal_lacks_a_secret_in_the_daemon_only(tmp_path: Path) -> None:
    with MockCollector() as upstream, Relay(tmp_path) as relay:
        signals = ("--signals", "traces,logs", "--logs-header", "X-Logs=${env:UP_TOKEN}")
        arguments = ("add", "up", "--endpoint", upstream.endpoint, *signals)
        shown = run(relay, *arguments, environ={"UP_TOKEN": CANARY})
        listed = json.loads(run(relay, "show", "up", "--json").stdout)

        assert shown.returncode == 1
        assert "cannot send yet: logs: secret ${env:UP_TOKEN} is not set" in shown.stderr
        assert listed["blocked_reason"] == "logs: secret ${env:UP_TOKEN} is not set"


def test_state_in_the_list_is_that_of_the_signal_that_fares_worst(tmp_path: Path) -> None:
    with MockCollector(profile="loki") as logs, MockCollector() as upstream:
        more = ("--logs-endpoint", logs.endpoint, "--signals", "traces,logs")
        with Relay(tmp_path) as relay:
            add(relay, "up", upstream, *more)
            upstream.script.replace("401*")
            assert relay.post(request_of(span_ids(3)))[0] == 200

            def state() -> str:
                (found,) = json.loads(run(relay, "list", "--json").stdout)["destinations"]
                return str(found["state"])

            eventually(lambda: state() == "blocked")
