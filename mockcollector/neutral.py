"""Text that senders chose in; the same text as nothing in a terminal is moved by it out."""


def printable(text: str) -> str:
    """The text with every character that is not to be seen written as an escape.

    Names, keys, paths and header names are the sender's: none may move the cursor, ring the bell
    or turn the reading direction of what stands beside it.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, characters: int) -> str:
    """At most so many characters of it, printable."""
    return printable(text if len(text) <= characters else text[: characters - 1] + "…")
