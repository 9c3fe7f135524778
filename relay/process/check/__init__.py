"""What a span must be to be relayed: bad ids reject a span, never its neighbours.

Relayed, one of them would make an upstream refuse a whole batch. Everything else that breaks a
rule without being undecodable is kept and counted.

- `ids`: what an id must be, reasons, derived ids
- `json_spans`, `protobuf_spans`: all spans of a request at one look, in its encoding
- `span_rules`: one span after another, where that look finds something
- `rejections`: rejected spans, all counted and so many kept
- `weight`: whether a body is too much for the event loop
- `words`: what the sender is told
"""
