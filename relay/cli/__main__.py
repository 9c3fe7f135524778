"""`python -m relay.cli`: the same as the installed command `otlp-relay`."""

from relay.cli import main

main(prog_name="otlp-relay")
