"""Sets up structlog, once, so that every event becomes a line of the log.

Readable on a terminal, fields of the journal where standard error ends there, JSON otherwise.

Header values and tokens never reach a log: they travel as `secrets.Secret`, whose text is masked,
and events carry header *names*. `mask_secret_values` is the net under that rule.
"""

import io
import logging
import sys
import textwrap
from collections.abc import Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any, TextIO

import structlog

from relay.model.printable import escaped, escaped_lines
from relay.systemd.journal import Journal

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SECRET_KEYS = frozenset({"authorization", "headers", "token", "tokens", "password", "secret"})


def mask_secret_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what stands under a name that speaks of a secret, whoever logged it."""
    for key in event.keys() & SECRET_KEYS:
        event[key] = "***"
    return event


def set_up(
    *,
    level: str = "info",
    stream: TextIO | None = None,
    json: bool | None = None,
    journal: Journal | None = None,
) -> None:
    """Send all events to `journal`, else to `stream` (standard error unless given).

    To a stream: JSON lines, or with a terminal (or `json=False`) one readable line an event.
    Events of libraries that use the standard library's logging come out the same way, from
    warning on.
    """
    out = stream if stream is not None else sys.stderr
    as_json = json if json is not None else not out.isatty()
    shared: list[Any] = [structlog.stdlib.add_log_level, mask_secret_values]
    if journal is not None:
        render: list[Any] = [_say_error, structlog.processors.format_exc_info, _as_event]
        handler: logging.Handler = _JournalHandler(journal)
        # structlog calls the method of the level at the end of its chain.
        writer = SimpleNamespace(**dict.fromkeys((*LEVELS, "critical"), journal.write))
        factory: Any = lambda *_: writer  # noqa: E731 - a factory in two forms
    else:
        shared.insert(
            1, structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json)
        )
        render = _renderers(out, as_json=as_json)
        handler = logging.StreamHandler(out)
        handler.setFormatter(_formatter(shared, render))
        factory = structlog.WriteLoggerFactory(file=out)
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def _renderers(out: TextIO, *, as_json: bool) -> list[Any]:
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        _escape,
        structlog.dev.ConsoleRenderer(
            colors=out.isatty(), pad_event_to=24, exception_formatter=_traceback
        ),
    ]


class _Quoted:
    """A text that the renderer does not take for one, and so asks for its `repr`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _escape(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Let nothing that others sent command the terminal; JSON escapes by itself."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = escaped(value) if key == "event" else _Quoted(value)
    return event


def _traceback(out: TextIO, exc_info: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    # Indented: no line of what an exception says can pass for one of the log.
    out.write(textwrap.indent(escaped_lines(text.getvalue()), "  "))


def _formatter(shared: list[Any], render: list[Any]) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def _say_error(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put what an exception says beside its traceback: that is of no use in one line."""
    given = event.get("exc_info")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        event.setdefault("error", f"{type(error).__name__}: {error}".rstrip(": "))
    return event


def _as_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[Mapping[str, Any]], dict[str, Any]]:
    """Hand the event to the logger as it is: the arguments of its call."""
    return (event,), {}


class _JournalHandler(logging.Handler):
    """Records of libraries, which come with a text and no fields."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        event: MutableMapping[str, Any] = {
            "event": record.getMessage(),
            "logger": record.name,
            "level": record.levelname.lower(),
        }
        if record.exc_info:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        self._journal.write(mask_secret_values(None, "", event))
