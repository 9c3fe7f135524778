"""Destinations before anything is sent to them: is there somebody, and what is wrong if not.

`connection` is the test: name → TCP → TLS → HTTP → auth → encoding → a request → read back, each
a `Step` of the `report`. `dialling` makes the connection and `exchange` has one request answered;
`answers` says what an answer means and `breakage` what a connection means that failed; `paths`
knows what is wrong with a path, `payload` what is posted, `read_back` how a trace is found again.
The saved files stand in `saved`.
"""
