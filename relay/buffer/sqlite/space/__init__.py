"""What gives way when space is short: limits, the order in which rows go, when it will be full.

`space` measures and `reserve` is room for a full disk; `retention` lets delivered rows go,
`eviction` those that may go undelivered, by what `hold_timers` say; `history` remembers what went.
`row_age` tells how old a row is by a clock that does not jump, `time_to_full` looks ahead.
`housekeeping`, one floor up, calls them.
"""
