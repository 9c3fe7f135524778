"""The wire: OTLP/HTTP in its two encodings, as structs, fragments, responses and transcoding.

- `messages`: typed structs of OTLP/JSON, used by `json` and `transcode`.
- `json`: a body to structs (fast way, exact way) and structs to fragments.
- `protobuf`: a body to the official messages and these to fragments.
- `resources`: what is known of a resource, cached by its bytes.
- `transcode`: a fragment of one encoding to one of the other, and doubles that are no numbers.
- `responses`: bodies of our responses in the sender's encoding; those of upstreams read.

A *fragment* concatenates: comma-joined `resourceSpans` entries in JSON, encoded `resource_spans`
fields in protobuf. A batch for an upstream is then a join, not a decode.
"""
