"""`otlp-relay buffer check`: read every row, and say what is damaged and what becomes of it."""

import sys
from dataclasses import asdict

import click

from relay.cli.options import config_option, file_of_own, json_option, load_or_exit
from relay.cli.output import columns_of, print_table, progress_bar, say, say_json, say_styled
from relay.model.nouns import counted, listed_items
from relay.model.units import about_bytes
from relay.offline import check as checking
from relay.salvage.losses import named

COLUMNS = {
    "DESTINATION": lambda it: it.name,
    "SIGNAL": lambda it: it.signal,
    "OWED ITEMS": lambda it: f"{it.spans:,}",
    "ROWS": lambda it: f"{it.rows:,}",
    "SIZE": lambda it: about_bytes(it.raw_bytes),
}


@click.command()
@config_option
@json_option
def check(config_path: str | None, as_json: bool) -> None:
    """Read every row and dead letter on disk, and compare its checksum.

    Works with or without a running daemon, changes nothing, and takes about 10 s a GiB. Exits 0
    when everything is sound, 1 when damage was found or the file cannot be read.
    """
    config = load_or_exit(config_path)
    with progress_bar("rows") as progress:
        found = checking.check(file_of_own(config), progress)
    if as_json:
        say_json({**asdict(found), "sound": found.is_sound})
    else:
        tell(found)
    sys.exit(0 if found.is_sound else 1)


def tell(found: checking.CheckReport) -> None:
    """The findings as text."""
    beside = "a daemon is using it" if found.is_running else "no daemon is using it"
    say(f"{found.file}: {beside}")
    say(
        f"{counted(found.rows, 'row')} {'is' if found.rows == 1 else 'are'} sound: "
        f"{listed_items(found.by_signal)},"
        f" {about_bytes(found.raw_bytes)} before compression;"
        f" {counted(found.dead_letters, 'dead letter')}"
    )
    if found.destinations:
        signals = (each.signal for each in found.destinations)
        print_table(columns_of(COLUMNS, signals), found.destinations)
    for aside in found.set_aside:
        say(f"quarantined: {aside.words or f'{aside.file} {aside.state}'}")
    for line in damage(found):
        say_styled(line, "red")
    say_styled(*(("sound", "green") if found.is_sound else ("DAMAGED", "red")))


def damage(found: checking.CheckReport) -> list[str]:
    """A line for each kind of damage, with what becomes of it."""
    lines = []
    if found.damaged_rows:
        ids = named([(row, row) for row in found.damaged_rows])
        lines.append(
            f"damaged rows: {ids}. Each becomes a dead letter (`damaged_on_disk`) when its turn"
            " comes; the others are delivered"
        )
    if found.missing_rows:
        lines.append(
            f"missing rows, owed but not in the table: {named(found.missing_rows)}. When the daemon"
            " reaches one, it quarantines the file and reads back what is intact"
        )
    if found.damaged_dead_letters:
        ids = named([(letter, letter) for letter in found.damaged_dead_letters])
        lines.append(f"damaged dead letters: {ids}. They stay, marked as damaged")
    lines += [
        f"what {each.name} is owed{'' if each.signal == 'traces' else f' of {each.signal}'}"
        " cannot be read: it is sent everything, some of it twice"
        for each in found.destinations
        if each.is_damaged
    ]
    if found.structure:
        words = "; ".join(found.structure[:5])
        lines.append(
            f"SQLite's structure: {words}. When the daemon meets this, it quarantines the file,"
            " continues with a new one, and reads back every row that is intact"
        )
    return lines
