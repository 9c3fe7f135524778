"""`otlp-relay buffer snapshot`: a consistent copy of the buffer while the daemon goes on."""

from pathlib import Path

import click

from relay.cli.options import config_option, file_of_own, json_option, load_or_exit
from relay.cli.output import progress_bar, say, say_json
from relay.model.errors import RelayError
from relay.model.nouns import counted, listed_items
from relay.model.units import about_bytes
from relay.offline import snapshot as copying


@click.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@config_option
@json_option
def snapshot(target: Path, config_path: str | None, as_json: bool) -> None:
    """Copy the buffer to the new file FILE, 0600 and synced, and verify the copy.

    Works with or without a running daemon, which is not held up. The
    copy holds everything that was there when it began, and what each destination was owed.

    To put it back: stop the daemon, move relay.db, relay.db-wal, relay.db-shm and last-row out of
    the state directory, copy FILE there as relay.db, and start. What was owed when the copy was
    made is delivered again, also what has been delivered since.
    """
    config = load_or_exit(config_path)
    with progress_bar("rows") as progress:
        try:
            found = copying.snapshot(file_of_own(config), target.absolute(), progress)
        except OSError as error:
            raise RelayError(f"cannot write {target}: {error.strerror or error}") from None
    if as_json:
        say_json(found)
        return
    size = about_bytes(found.size_bytes)
    say(f"{target}: {counted(found.rows, 'row')}, {listed_items(found.by_signal)}, {size}")
    for row in found.damaged_rows:
        say(f"otlp-relay: row {row} is damaged, in the buffer and in the copy", err=True)
