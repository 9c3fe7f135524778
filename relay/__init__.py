"""otlp-relay: a relay daemon for OpenTelemetry spans.

A span's way, and the file where each step lives::

     app ──POST /v1/traces──▶ ingest ─▶ check ─▶ enrich ─▶ buffer ──commit──▶ 200
                              limits    reject   resource   SQLite, one transaction
                              auth      a span,  attributes for all requests that
                              gunzip    not all  added      wait (group commit)
                                                    │
           one courier a destination ◀─ what it is owed
                read ─▶ batch ─▶ POST with headers ─▶ outcome ─▶ done | wait | blocked

The way in is `ingest/pipeline.py`, one function. The way out is `deliver/courier.py`, one loop.
Life is `daemon.py`, two nested task groups. Read these three and you know the whole.

Imports go down only; `tests/test_architecture.py` holds that, docs/architecture.md draws it::

    cli → daemon → admin → dead_letters, traces → offline → salvage, doctor, deliver, ingest
        → buffer/sqlite, upstream, process → buffer, otlp, server → systemd, config → model
"""
