"""The buffer's file without its daemon, or beside it: for commands, and nothing is written.

`file` opens it, the one way to; `check` looks at all of it, `export` writes it as OTLP, `snapshot`
makes a copy.
"""
