"""`mockcollector check` as somebody types it: what it prints, writes and ends with."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

SENDER = [sys.executable, "-I", str(Path(__file__).with_name("sender.py"))]
EXECUTABLE = Path(sys.executable).with_name("mockcollector")
ENVIRON = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def check(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [EXECUTABLE, "check", "--protocol", "http/json", *arguments],
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_card_in_text_has_80_columns_and_ends_with_0() -> None:
    shown = check("--only", "retry-503", "--only", "valid", "--", *SENDER)

    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "passed    MUST    retry-503: 503 Unavailable is retried" in lines
    assert lines[-1] == "2 of 2 passed"
    assert "it sends traces" in shown.stderr


def test_failed_must_is_exit_1_with_clause_and_wire() -> None:
    shown = check("--quiet", "--only", "final-500", "--", *SENDER, BREAK="final-500")

    assert shown.returncode == 1
    words = " ".join(shown.stdout.split())
    assert "FAILED MUST final-500: 500 Internal Server Error is final" in words
    assert "OTLP 1.11.0, Retryable Response Codes: Every 4xx and 5xx but 429" in words
    assert "request A (2 spans) → 500" in words
    assert "1 MUST failed" in words
    assert shown.stderr == ""


def test_failed_should_is_exit_1_with_strict_only() -> None:
    arguments = ["--quiet", "--only", "user-agent", "--", *SENDER]

    assert check(*arguments, BREAK="user-agent").returncode == 0
    assert check("--strict", *arguments, BREAK="user-agent").returncode == 1


def test_failed_advice_is_never_exit_1() -> None:
    arguments = ["--quiet", "--strict", "--only", "partial-success*", "--", *SENDER]

    shown = check(*arguments, BREAK="partial-success-told")

    assert shown.returncode == 0
    assert "1 advice failed" in shown.stdout


def test_json_junit_badge_and_page_tell_the_same(tmp_path: Path) -> None:
    junit, badge, page = (tmp_path / name for name in ("card.xml", "card.svg", "card.md"))

    shown = check(
        *("--quiet", "--json", "--name", "a <b> | c", "--only", "retry-50[34]"),
        *("--junit", str(junit), "--badge", str(badge), "--markdown", str(page)),
        *("--", *SENDER),
        BREAK="retry-504",
    )

    card = json.loads(shown.stdout)
    assert card["name"] == "a <b> | c"
    assert card["signals"] == ["traces"]
    verdicts = {each["scenario"]: each["verdict"] for each in card["results"]}
    assert verdicts == {"retry-503": "passed", "retry-504": "failed"}
    suite = ET.parse(junit).getroot().find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    failure = suite.find("testcase[@name='retry-504']/failure")
    assert failure is not None
    assert failure.get("message") == "MUST: it was not sent again"
    drawn = ET.parse(badge).getroot()  # noqa: S314 - our own
    assert drawn.get("aria-label") == "OTLP conformance: 1 of 2"
    written = page.read_text()
    assert "# a &lt;b> \\| c\n" in written
    assert "### retry-504" in written
    assert "| retry-503: 503 Unavailable is retried | MUST | traces | passed |" in written


def test_same_verdict_for_several_signals_is_one_line() -> None:
    shown = check("--quiet", "--only", "retry-502", "--", *SENDER, LOGS="1", METRICS="1", BREAK="x")

    assert "traces, logs, metrics" in " ".join(shown.stdout.split())
    assert shown.stdout.count("retry-502") == 1
    assert "3 of 3 passed" in shown.stdout


def test_command_that_sends_nothing_is_told_what_it_did() -> None:
    shown = check("--quiet", "--", sys.executable, "-c", "print('no exporter here')")

    assert shown.returncode == 2
    assert "the command sent nothing to OTEL_EXPORTER_OTLP_ENDPOINT" in shown.stderr
    assert "nothing arrived; exit 0" in shown.stderr
    assert "no exporter here" in shown.stderr


def test_command_that_is_not_there_is_usage_error() -> None:
    shown = check("--", "no-such-command-anywhere")

    assert shown.returncode == 2
    assert "cannot run 'no-such-command-anywhere'" in shown.stderr


def test_unknown_scenario_is_told_the_nearest() -> None:
    shown = check("--only", "retry-5033", "--", "true")

    assert shown.returncode == 2
    assert "did you mean 'retry-503'?" in shown.stderr


def test_list_names_every_scenario_and_what_it_is_about() -> None:
    shown = check("--list")

    assert "MUST    retry-503" in shown.stdout
    assert "advice  partial-success-told" in shown.stdout
