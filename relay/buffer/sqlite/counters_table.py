"""Counts that outlive the process: a name and how many more in, the sums so far out."""

import apsw

from relay.buffer.sqlite.schema import fetch

# Dead letters given up for space or age, by whose they were; nothing after the colon: ingest's.
DROPPED_LETTERS = "dead_letters_dropped:"


def add(connection: apsw.Connection, name: str, more: int) -> None:
    """Add to a count, inside the caller's transaction."""
    connection.execute(
        "INSERT INTO tallies VALUES (?,?) ON CONFLICT DO UPDATE SET value = value + ?",
        (name, more, more),
    )


def read(connection: apsw.Connection, prefix: str = "") -> dict[str, int]:
    """Every count whose name begins with `prefix`, by the rest of its name."""
    found = fetch(connection, "SELECT name, value FROM tallies")
    return {
        str(name)[len(prefix) :]: value
        for name, value in found
        if str(name).startswith(prefix) and isinstance(value, int)
    }
