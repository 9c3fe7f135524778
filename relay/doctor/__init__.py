"""The connection test: does a destination take what this relay sends, and what is wrong if not.

`connection` is the test: name → TCP → TLS → HTTP → auth → encoding → a request → read back, each a
`Step` of the `report`. `relay.upstream` connects, exchanges and explains, for the test as for
delivery. Here is what only a test can tell: `watch` says what was seen of a connection,
`responses` judges the response to a request that ought to pass, `advice` knows what the preset
wants in its headers, `loops` whether the endpoint is this relay, `payload` what is posted, and
`read_back` how a trace is found again.
"""
