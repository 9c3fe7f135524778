"""otlp-relay: a relay daemon for OpenTelemetry spans.

A span's way, and the file where each step lives::

     app ──POST /v1/traces──▶ ingest ─▶ check ─▶ enrich ─▶ buffer ──commit──▶ 200
                              limits    reject   resource   SQLite, one transaction
                              auth      a span,  attributes for all requests that
                              gunzip    not all  added      wait (group commit)
                                                    │
           one courier a destination ◀─ what it is owed
                read ─▶ batch ─▶ POST with headers ─▶ outcome ─▶ done | wait | blocked

The way in is `pipeline.py`, one function. The way out is `deliver/courier.py`, one loop. Life is
`daemon.py`, two nested task groups. Read these three and you know the whole. What the service
manager hears of it is `service.py`, the sockets that it may give are `activation.py`.

What would hold up the event loop is checked and enriched by another process: `helper/`.

Imports go down only: cli → daemon → pipeline → helper → prepare → (ingest, check, enrich, buffer,
deliver, destinations, admin) → (otlp, listener, counters, logs, notify) → (config, records, …).
Stages never import each other. `tests/test_architecture.py` holds that.
"""
