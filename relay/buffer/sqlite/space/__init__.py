"""Limits and the disk as it is go in; what may go, in which order, and when it will be full, out.

`space` measures and `reserve` is room for a full disk; `retention` lets delivered rows go,
`eviction` those that may go undelivered, by what `holds` say; `history` remembers what went. `ages`
tells how old a row is by a clock that does not jump, `notes` keep what must outlive the process,
`outlook` and `forecast` look ahead. `housekeeping`, one floor up, calls them.
"""
