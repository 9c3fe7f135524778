"""The relay's own traces: what it took in and what it asked of upstreams, as spans.

Off unless `[telemetry] traces_to` names a destination. They tell of the relay, so they may not be
in its way, nor in the way of what is kept for others:

- They never enter the buffer. They wait in memory, at most some thousand, and go straight to the
  destination, a request every few seconds; what it does not take is dropped, and that is said.
- They do not feed on themselves. A delivery of traces to the destination that gets them makes no
  span, and neither does a request that came through another relay.
- They do not grow with the load: so many a second of a name, and the next says how many had none.
"""
