"""Delivery: what every destination is owed gets there, and nothing is lost on the way.

One courier for each signal of a destination runs the loop *take → build → send → decide* and knows
nothing of the other couriers: what hangs holds up only itself.

**At least once.** A row is settled only after the upstream has said 2xx, or when what it refused
becomes a dead letter in the same step. Everything in between (a crash, a kill, a cut
connection, a shutdown) leaves the row owed, and it is sent again. So an upstream may see a span
twice: when its answer was lost on the way to us.

**Order.** Rows go in the order in which they were kept, one request after the other. Nothing
lingers to make a batch larger: what was kept while one request was out goes with the next. Where
the settings allow it and more is owed than one request holds, further requests go beside the first
(`parallel`); they end with the backlog, or with the first failure.

Metrics go one request at a time and are never overtaken: a receiver refuses points that come after
later ones of their series. So no newer row is their probe, and a search goes from left to right.

**What waits.** 408, 425, 429, every 5xx, no connection, a timeout. The upstream is expected to
come back by itself; it is tried again after its Retry-After, else after a random part of a span
of time that doubles from one second to thirty. For ever: waiting gives up nothing.

A timeout, 500, 502 or 504 after the body was sent may mean that it was too much: the next request
is half of it, down to one row, and grows again with each success (`learnt.BatchLimits`).

**What is parked.** The same answers may come from one span, each time that it is sent. After three
of them for one head another span is asked, and the head is searched by halving. A single span that
was answered so alone, several times, while others passed, is *parked*: owed as before, while the
others go first (`parked`). It is tried alone after a minute, less often then, up to ten, and at
once on a wake; what comes of that is no failure of the destination. It never becomes a dead letter
for a 5xx or a timeout. At most 128 spans are parked; what comes to the head then waits.

**What is blocked.** Everything else that is no success: a wrong token, a wrong path, a redirect,
a certificate that cannot be trusted, a secret without a value, an exception of ours. Somebody
should look, so the state and its reason are in the status and in one log line. It is probed all
the same, after five seconds and then less often, down to once a minute, because the cure may be
on the other side. A reload or a resume probes at once.

**The other encoding.** With `encoding = "auto"` a batch goes as it came in. Where an upstream
answers 415, 400 or 422, the same rows are sent once in the other encoding; if that passes, or if
the words named the encoding, it is remembered until the settings change, and the status says so.

**What is refused for itself.** 400 and 422 may mean a single span, 413 the size, and an exception
of ours the bytes at hand. The batch is halved, and what is at fault is found and becomes a dead
letter, if others are seen to pass (`isolate`). After three failures of one head with any other
status, every other probe is the newest row instead: if that passes, it is the head, and it is
searched.

Words that a preset knows to mean content are treated as a 400, whatever the status, and prove it:
no others need to pass. Those that mean the age of items are searched by time (`isolate.age`).

**What is not for it.** A destination may have steps (`relay.process.steps`): what they filter is
settled without being sent. They run where a body is built (`stepping`), over the originals.

**What waits for its trace.** A destination that keeps whole traces (`sample.keep`) is handed a row
only when it has waited for the rest of its traces (`lag`); a scout has looked at what came by then
(`whole_traces`). It waits on disk, and is no backlog.

**What becomes a dead letter**, with the upstream's own words:

- `upstream_refused`, `too_large`: a span that was refused alone while others passed;
- `upstream_partial`: OTLP's partial success says how many were refused, never which, so the whole
  batch is kept as "N of M";
- `too_old`: received longer ago than the destination's `max_age`; not sent;
- `temporality`: points that are cumulative where the destination takes delta, or the reverse; left
  out of the request before it is sent (`left_out`);
- `step_failed`: a step of the destination could not be finished on it;
- `relay_error`: an exception of ours, with the lines it came through.

The files: `fleet` keeps the couriers; `courier` is the loop of one, `rest` its pauses
and `pauses` how long they are, `status` what people are told of it. `sender` takes, sends and
settles one batch; `batches` turns rows into a request body, `learnt` says how much of them goes at
once and in which encoding, `stepping` runs a
destination's steps over them, `make_dead_letter` keeps what is given up. `isolate` finds what a
refusal is about: `policy` decides what it leads to, `bisect` looks for the culprits. `parked` tries
alone what breaks its upstream, `parallel` are the requests beside the first. The exchange itself,
and what an answer means, are the business of `relay.upstream`.
"""
