"""Log lines: readable or JSON, and never with a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from relay import logs


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = before, level
    structlog.reset_defaults()


def test_event_comes_out_as_one_json_object_a_line() -> None:
    out = io.StringIO()
    logs.set_up(stream=out)
    structlog.stdlib.get_logger("x").info("batch_kept", spans=3)
    found = json.loads(out.getvalue())

    assert found["event"] == "batch_kept"
    assert found["spans"] == 3
    assert found["level"] == "info"


def test_what_stands_under_a_secret_name_is_masked_in_both_forms() -> None:
    for as_json in (True, False):
        out = io.StringIO()
        logs.set_up(stream=out, json=as_json)
        structlog.stdlib.get_logger("x").warning("e", headers={"a": "hunter2"}, token="hunter2")

        assert "hunter2" not in out.getvalue()
        assert "***" in out.getvalue()


def test_debug_events_are_left_out_unless_asked_for() -> None:
    out = io.StringIO()
    logs.set_up(stream=out, json=True)
    structlog.stdlib.get_logger("x").debug("hidden")
    logs.set_up(stream=out, json=True, level="debug")
    structlog.stdlib.get_logger("x").debug("shown")

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["shown"]


def test_warning_of_a_library_comes_out_in_the_same_form() -> None:
    out = io.StringIO()
    logs.set_up(stream=out, json=True)
    logging.getLogger("some.library").warning("old news: %s", 7)

    assert json.loads(out.getvalue())["event"] == "old news: 7"


def test_words_of_others_cannot_command_the_terminal_that_shows_the_log() -> None:
    hostile = "\x1b[2J\x9b31m\u202eevil\u200b\r\nready"
    out = io.StringIO()
    logs.set_up(stream=out, json=False)
    log = structlog.stdlib.get_logger("x")
    log.warning("refused", agent=hostile, path=f"/{hostile}", words=[hostile], short="\x9bK")
    log.warning(hostile)
    logging.getLogger("some.library").warning("said: %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("failed", reason=hostile)
    text = out.getvalue()

    assert all(each == "\n" or each.isprintable() for each in text)
    assert not [line for line in text.splitlines() if line.startswith("ready")]
    assert r"agent='\x1b[2J\x9b31m\u202eevil\u200b\r\nready'" in text
    assert r"short='\x9bK'" in text


def test_words_that_are_harmless_look_as_before_in_the_log() -> None:
    out = io.StringIO()
    logs.set_up(stream=out, json=False)
    structlog.stdlib.get_logger("x").info("ready", destinations="a, b", state="日本語")

    assert "ready                    destinations='a, b' state=日本語" in out.getvalue()
