"""Posted spans go in over HTTP; bodies, unzipped and still encoded, go on to the pipeline.

A request is judged in this order, each step cheaper than the next, and nothing of the body is
read before the sender may send it at all:

    path → method → stopping → token → loop → Content-Type → Content-Encoding → Content-Length
    → the body up to its limit → unzipped up to its limit → the pipeline, which answers

`endpoint` is that way, `senders` says who somebody is and whether they may, `headers` what they
say of their body, `refusals` how refused requests are logged.
"""
