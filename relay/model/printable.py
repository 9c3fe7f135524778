r"""Makes the words of others safe to show: what a terminal would obey is written out instead.

A span's name, a header of an upstream or a key of a file may hold ESC, which can rewrite what
stands above or fill the clipboard (CWE-150), line breaks that feign a line of ours, and marks that
turn the direction of reading or have no width. All of that becomes an escape such as `\x1b` or
`\u202e`. Blanks of any script stay: they do no harm, and text is not legible without them.
"""

import unicodedata


def escaped(text: str) -> str:
    """The text in one line, every character of it visible or a blank."""
    if text.isprintable():
        return text
    return "".join(
        each
        if each.isprintable() or unicodedata.category(each) == "Zs"
        else each.encode("unicode_escape").decode()
        for each in text
    )


def escaped_lines(text: str) -> str:
    """The same for text whose line breaks are ours."""
    return "\n".join(map(escaped, text.split("\n")))
