"""Log events as the journal gets them: fields by its native protocol, a sentence for people."""

import io
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from relay import logs
from relay.systemd.journal import Journal, field_name, is_connected, sentence
from tests.support.manager import FakeJournal


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = before, level
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FakeJournal]:
    with FakeJournal(tmp_path / "journal") as fake:
        yield fake


@pytest.fixture
def log(journal: FakeJournal) -> Iterator[structlog.stdlib.BoundLogger]:
    """A logger of ours that ends in that journal."""
    connection = Journal(str(journal.path))
    logs.set_up(journal=connection)
    yield structlog.stdlib.get_logger("relay.test")
    connection.close()


def test_event_becomes_an_entry_with_a_sentence_and_a_field_each(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    log.error("destination_blocked", destination="axiom", reason="403 “bad token”", since_ns=7)

    assert journal.entry() == {
        "MESSAGE": "destination_blocked axiom: 403 “bad token” (since_ns=7)",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "otlp-relay",
        "EVENT": "destination_blocked",
        "DESTINATION": "axiom",
        "REASON": "403 “bad token”",
        "SINCE_NS": "7",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("critical", "2"), ("warning", "4"), ("info", "6")]
)
def test_priority_is_that_of_the_level(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger, level: str, priority: str
) -> None:
    getattr(log, level)("something")

    assert journal.entry()["PRIORITY"] == priority


def test_debug_is_left_out_and_secrets_are_masked(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    log.debug("hidden")
    log.info("shown", token="hunter2")
    entry = journal.entry()

    assert entry["EVENT"] == "shown"
    assert entry["TOKEN"] == "***"
    assert "hunter2" not in str(entry)


def test_value_with_line_breaks_arrives_whole_and_cannot_forge_a_field(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    log.warning("spans_refused", words="first\nPRIORITY=0\n\nlast=\n")
    entry = journal.entry()

    assert entry["WORDS"] == "first\nPRIORITY=0\n\nlast=\n"
    assert entry["PRIORITY"] == "4"
    assert "\n" not in entry["MESSAGE"]


def test_exception_is_named_in_the_sentence_and_its_traceback_is_a_field(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    log.critical("part_died", exc_info=ExceptionGroup("group", [RuntimeError("the disk is gone")]))
    entry = journal.entry()

    assert entry["MESSAGE"] == "part_died: RuntimeError: the disk is gone"
    assert "ExceptionGroup" in entry["EXCEPTION"]
    assert entry["EXCEPTION"].count("\n") > 2


def test_entry_that_no_datagram_holds_comes_as_a_sealed_file(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    words = "so many words " * 1_000_000
    log.warning("spans_refused", words=words)
    entry = journal.entry()

    assert journal.files == 1
    assert entry["WORDS"] == words


def test_library_warnings_arrive_with_the_name_of_their_logger(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    logging.getLogger("some.library").warning("old news: %s", 7)
    entry = journal.entry()

    assert entry["MESSAGE"] == "old news: 7 (logger=some.library)"
    assert entry["PRIORITY"] == "4"
    assert entry["LOGGER"] == "some.library"


def test_without_a_journal_the_sentence_goes_to_standard_error_with_its_priority(
    tmp_path: Path,
) -> None:
    out = io.StringIO()
    connection = Journal(str(tmp_path / "absent"), fallback=out)
    logs.set_up(journal=connection)
    structlog.stdlib.get_logger("x").error("reload_refused", reason="no\nsuch file")
    connection.close()

    assert out.getvalue() == "<3>reload_refused: no such file\n"


def test_journal_that_is_only_slow_loses_nothing(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    sent = 2000

    def write_all() -> None:
        for number in range(sent):
            log.info("line", number=number)

    writer = threading.Thread(target=write_all, daemon=True)
    writer.start()
    numbers = [int(journal.entry()["NUMBER"]) for _ in range(sent)]
    writer.join(20)

    assert numbers == list(range(sent))


def test_journal_that_takes_nothing_holds_nobody_up_and_lost_lines_are_counted(
    journal: FakeJournal, log: structlog.stdlib.BoundLogger
) -> None:
    sent = 3000

    def write_all() -> None:
        for number in range(sent):
            log.info("line", number=number)

    writer = threading.Thread(target=write_all, daemon=True)
    writer.start()
    writer.join(20)
    assert not writer.is_alive()
    kept = len(journal.entries())
    assert 0 < kept < sent
    log.info("after")
    entry = journal.entry()

    assert entry["EVENT"] == "after"
    assert int(entry["DROPPED_BEFORE"]) == sent - kept


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("waiting_spans", "WAITING_SPANS"),
        ("message", "RELAY_MESSAGE"),
        ("priority", "RELAY_PRIORITY"),
        ("code_line", "RELAY_CODE_LINE"),
        ("unit", "RELAY_UNIT"),
        ("_uid", "UID"),
        ("2nd try", "ND_TRY"),
        ("maß.größe", "MASS_GR_SSE"),
        ("__", "FIELD"),
        ("x" * 80, "X" * 64),
    ],
)
def test_field_names_are_such_as_the_journal_takes(name: str, field: str) -> None:
    assert field_name(name) == field


def test_sentence_leaves_out_what_has_many_lines() -> None:
    event = {"event": "request_failed", "error": "KeyError", "frames": "a\nb", "level": "error"}

    assert sentence(event) == "request_failed: KeyError"


def test_journal_stream_counts_only_for_the_very_same_stream() -> None:
    left, right = socket.socketpair()
    found = os.fstat(left.fileno())
    named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    answers = [
        is_connected(named, left.fileno()),
        is_connected(named, right.fileno()),
        is_connected({}, left.fileno()),
        is_connected({"JOURNAL_STREAM": "x"}, left.fileno()),
    ]
    left.close()
    right.close()

    assert answers == [True, False, False, False]
