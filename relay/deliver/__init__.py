"""Delivery: rows of the buffer go in, answered requests to an upstream come out.

One courier a destination runs the loop *take → build → send → decide* and knows nothing of the
other couriers: a destination that hangs holds up only itself.

**At least once.** A row is settled only after the upstream has said 2xx, or after what it refused
was set aside as a dead letter in the same step. Everything in between (a crash, a kill, a cut
connection, a shutdown) leaves the row owed, and it is sent again. So an upstream may see a span
twice: when its answer was lost on the way to us.

**Order.** One request is in flight at a time, and rows go in the order in which they were kept.
Nothing lingers to make a batch larger: what was kept while one request was out goes with the next.

**What waits.** 408, 425, 429, every 5xx, no connection, a timeout. The upstream is expected to
come back by itself; it is tried again after its Retry-After, else after a random part of a span
of time that doubles from one second to thirty. For ever: waiting gives up nothing.

**What is blocked.** Everything else that is no success: a wrong token, a wrong path, a redirect,
a certificate that cannot be trusted, a secret without a value, an exception of ours. Somebody
should look, so the state and its reason are in the status and in one log line. It is probed all
the same, after five seconds and then less often, down to once a minute, because the cure may be
on the other side. A reload or a resume probes at once.

**The other encoding.** With `encoding = "auto"` a batch goes as it came in. Where an upstream
answers 415, 400 or 422, the same rows are sent once in the other encoding; if that passes it is
remembered until the settings change, and the status says so.

**What is set aside.** Only spans that the upstream itself refused inside a success (OTLP's
partial success). It says how many, never which, so the whole batch becomes one dead letter that
says "N of M".

The files: `fleet` keeps a courier for each destination; `courier` is the loop and keeps the
destination's status, `seams` what it stands between; `batches` turns rows into a
request body; `upstream` is one HTTP exchange; `policy` says what an answer means and how long to
pause, without any I/O; `failures` turns foreign exceptions into such an outcome; `network` is the
byte stream under the exchange, which notes how far it got; `settings` is what the daemon passes.
"""
