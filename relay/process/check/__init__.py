"""What a span must be to be relayed: bad ids reject a span, never its neighbours.

Relayed, one of them would make an upstream refuse a whole batch. Everything else that breaks a
rule without being undecodable is kept and counted.

- `ids`: what an id must be, reasons, derived ids
- `json_spans`, `protobuf_spans`: the checks of each span in its encoding
- `rejections`: rejected spans, all counted and so many kept
- `weight`: whether a body is too much for the event loop
- `words`: what the sender is told
"""
