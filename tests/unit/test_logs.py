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
