"""Reads a quarantined file back: every row and dead letter that its own checksum vouches for.

`pages` reads SQLite's format by itself, from the database and its WAL, so that the file stays as it
is: every page, in its newest and its older versions. `scan` finds rows on them, last by what the
head of a row looks like, and `old_state` the last id. `readmit` appends them to the buffer, owed to
whom they were owed, with the progress (table `salvages`) in one transaction; `losses` tells what
was not found from the sums that each row holds over all before it. `salvage` does it all behind the
running daemon.
"""
