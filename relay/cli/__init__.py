"""The command line: one command a file; each parses, prints and sets the exit code."""


def main() -> None:
    """Run `otlp-relay`."""
