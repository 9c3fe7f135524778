"""The admin listener: what the daemon tells about itself, on a port of its own.

Apart from ingest, since ingest may be put behind a public proxy. `/healthz`, `/readyz` and
`/metrics` are open; everything under `/api/` needs the token in `state_dir/admin-token`. The Host
header must name this host (421 otherwise: a page elsewhere must not reach it by DNS rebinding);
no CORS, no cookies.

- `app`: routes, the Host rule, the token.
- `trace_routes`: where a trace is, and which came last.
- `replay`: what is kept, to one destination again.
- `control`: what can be asked of it: reload, pause, resume, remove.
- `answers`: JSON answers and their headers.
- `snapshot`, `trace`: the documents of `/api/status` and `/api/traces/ID`, as plain dicts.
- `metrics`: the text of `/metrics`.
- `token`: the token's file.
"""
