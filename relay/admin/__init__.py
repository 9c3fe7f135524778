"""The admin listener: what the daemon tells about itself, on a port of its own.

Apart from ingest, since ingest may be put behind a public proxy. `/healthz`, `/readyz` and
`/metrics` are open; everything under `/api/` needs the token in `state_dir/admin-token`. The Host
header must name this host (421 otherwise: a page elsewhere must not reach it by DNS rebinding);
no CORS, no cookies.

- `app`: routes, the Host rule, the token.
- `health`: two paths for probes, on addresses of their own.
- `control`: reload, pause, resume, remove, test.
- `trace_routes`: where a trace is, which came last; replays kept spans to one destination.
- `dead_letters`: list, replay, discard, export.
- `status_document`, `trace_document`, `dead_letter_documents`: values as JSON has them.
- `metrics`: the text of `/metrics`.
- `api`: what all of these routes share: queries, JSON responses and their headers.
- `token`: the token's file.
"""
