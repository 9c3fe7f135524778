"""A strict OTLP/HTTP receiver for tests: requests in, a journal and scripted answers out.

::

    with MockCollector(script="503*3,ok") as collector:
        ...                                             # send to collector.base_url
        collector.journal.wait_for_spans(1)
        collector.journal.assert_span(name="chat", attributes={"llm.model": "m"})
        collector.journal.assert_log_record(body="paid", severity_number=9)
        collector.journal.assert_data_point(name="orders", value=1)

A request's way: `connection` reads it, `app` checks it by the `rules` (what it refuses never
reaches the script), `decoding` reads its body with the official protobuf classes, `validity` judges
its items, `script` says the answer, `exchange` gives it, and the `journal` (on `ledger`, `asking`,
`attempts`) keeps what arrived. `signals` is the table of what sets traces, logs and metrics apart.
`server` runs the app in a thread; `cli` and `pytest_plugin` are its two other doors.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mockcollector.journal import Journal
    from mockcollector.script import (
        Script,
        chaos,
        cut,
        cut_answer,
        endless,
        hang,
        ok,
        partial,
        refuse,
        reset,
    )
    from mockcollector.script_values import Answer, Chaos
    from mockcollector.server import MockCollector

__all__ = [
    "Answer",
    "Chaos",
    "Journal",
    "MockCollector",
    "Script",
    "chaos",
    "cut",
    "cut_answer",
    "endless",
    "hang",
    "ok",
    "partial",
    "refuse",
    "reset",
]


def __getattr__(name: str) -> Any:
    """Import at first use: pytest loads this package in every run, also where nobody needs it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    homes = {
        "Answer": "script_values",
        "Chaos": "script_values",
        "Journal": "journal",
        "MockCollector": "server",
    }
    return getattr(importlib.import_module(f"{__name__}.{homes.get(name, 'script')}"), name)
