"""Events in, log lines out: structlog set up once, readable on a terminal, JSON otherwise.

Header values and tokens never reach a log: they travel as `secrets.Secret`, whose text is masked,
and events carry header *names*. `mask_secret_values` is the net under that rule.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SECRET_KEYS = frozenset({"authorization", "headers", "token", "tokens", "password", "secret"})


def mask_secret_values(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what stands under a name that speaks of a secret, whoever logged it."""
    for key in event.keys() & SECRET_KEYS:
        event[key] = "***"
    return event


def set_up(*, level: str = "info", stream: TextIO | None = None, json: bool | None = None) -> None:
    """Send all events to `stream` (standard error unless given).

    JSON lines, or with a terminal (or `json=False`) one readable line an event. Events of
    libraries that use the standard library's logging come out the same way, from warning on.
    """
    out = stream if stream is not None else sys.stderr
    as_json = json if json is not None else not out.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
        mask_secret_values,
    ]
    if as_json:
        render: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        render = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                pad_event_to=24,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
