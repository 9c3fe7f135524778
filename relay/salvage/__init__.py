"""A file that was hit goes in; what its own checksums vouch for comes out, and what is missing.

`pages` reads SQLite's format by itself, from the database and its WAL, so that the file set aside
stays as it is; `scan` finds rows in them and `remains` what else there is to know; `taken_back` is
what is remembered of a file while it is read back, `losses` how many rows and spans are missing;
`salvage` does it all behind the running daemon.
"""
