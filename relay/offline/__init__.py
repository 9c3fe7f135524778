"""The file as another process reads it, beside a running daemon or without one: nothing is written.

`kept` opens it; `check` looks at all of it, `snapshot` makes a copy.
"""
