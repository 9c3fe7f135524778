"""How tools, frameworks and SDKs are made to send to the relay: the files NAME.toml of this folder.

Data and nothing else: `otlp-relay point` prints and writes it, and the pages under docs/senders are
made of it. What nobody saw at a source or tried stands in `unconfirmed` and is shown as such.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec

from relay.model.errors import RelayError

# What the files say; the address of a relay takes its place.
EXAMPLE_BASE: Final = "http://localhost:4318"


class UnknownSender(RelayError):
    """There is no file of that name."""

    code = "unknown_sender"


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something to set, or to write into the program."""

    says: str
    """Where it belongs, as the line above it."""
    format: Literal["shell", "json", "toml", "yaml", "text", "javascript", "go", "rust"]
    """What the text is. Of a `shell` each line sets a variable or is a command to type."""
    text: str
    file: str = ""
    """The file that it is merged into, from `~/`, for formats json and toml; "" where none is."""
    replaces_others: bool = False
    """Whether it takes the place of the steps before it."""

    def at(self, base: str) -> str:
        """The text with the address of a relay, without a newline at its end."""
        return self.text.strip("\n").replace(EXAMPLE_BASE, base)


class Sender(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one."""

    name: str
    title: str
    kind: Literal["agent", "framework", "gateway", "sdk"]
    signals: tuple[Literal["traces", "logs", "metrics"], ...]
    """What it sends with these settings."""
    page: str
    """Its own documentation."""
    steps: tuple[Step, ...]
    service: str = ""
    """The service.name under which it is seen; "" where the app says."""
    headers_variable: str = ""
    """The variable that adds a header, for a token; "" where none is known."""
    is_remote: bool = False
    """Whether it sends from its maker's servers, so that the relay needs a public address."""
    notes: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()

    @property
    def writable(self) -> Step | None:
        """The step that `--write` carries out."""
        return next((step for step in self.steps if step.file), None)

    @property
    def steps_beside_file(self) -> tuple[Step, ...]:
        """What is still to be done by hand once the file is written."""
        written = self.writable
        if written is None or written.replaces_others:
            return ()
        return tuple(step for step in self.steps if step is not written)


def _read(file: Path) -> Sender:
    return msgspec.convert({"name": file.stem, **tomllib.loads(file.read_text("utf-8"))}, Sender)


_ORDER: Final = ("agent", "gateway", "framework", "sdk")
SENDERS: Final = {
    sender.name: sender
    for sender in sorted(
        map(_read, Path(__file__).parent.glob("*.toml")),
        key=lambda sender: (_ORDER.index(sender.kind), sender.name),
    )
}


def find(name: str) -> Sender:
    """The sender of this name. Raises UnknownSender with the nearest one."""
    if name in SENDERS:
        return SENDERS[name]
    plain = name.lower().replace(" ", "-")
    titles = {sender.title.lower().replace(" ", "-"): sender.name for sender in SENDERS.values()}
    near = difflib.get_close_matches(plain, [*SENDERS, *titles], n=1, cutoff=0.5)
    hint = "`otlp-relay point --list` names all"
    if near:
        hint = f"did you mean {titles.get(near[0], near[0])}? {hint}"
    raise UnknownSender(f"nothing is known of {name[:40]!r}", hint=hint)
