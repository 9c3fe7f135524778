"""Words for people: clean, short, and with secrets masked."""

import html
import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
_ELLIPSIS = "…"
_SHORT = 6
"""Below this many characters a part of a secret is too likely to be an ordinary word."""


def clean(text: str, limit: int) -> str:
    """Give the text in one line of at most `limit` characters, without control characters.

    Format characters go too: some turn the direction of what follows them on a terminal.
    """
    line = " ".join(text.split())
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= limit else line[: max(0, limit - 1)] + _ELLIPSIS[:limit]


def cut(text: str, most_bytes: int) -> str:
    """The text, or its beginning with an ellipsis, within that many bytes of UTF-8."""
    # A lone surrogate cannot be encoded; our messages name paths and should hold none.
    encoded = text.encode(errors="replace")
    if len(encoded) > most_bytes:
        return encoded[: most_bytes - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
    return encoded.decode()


def decode_text(body: bytes) -> str:
    """Give the body as text, as far as it is one; empty when it is clearly something else."""
    text = body.decode("utf-8-sig", "replace").strip()
    strange = sum(text.count(character) for character in ("\ufffd", "\0"))
    return "" if strange * 10 > len(text) else text


_HIDDEN = frozenset({"script", "style", "svg"})
_TAG = re.compile(r"/?[A-Za-z][A-Za-z0-9]*")


def strip_tags(page: str) -> str:
    """Give the title of an HTML page, and its text unless that begins with the title again."""
    title: list[str] = []
    text: list[str] = []
    inside = ""  # the hidden element, or the title, that is open
    first, *pieces = page.split("<")
    text.append(first)
    for piece in pieces:
        tag, closed, words = piece.partition(">")
        found = _TAG.match(tag)
        name = found[0].lower() if found else ""
        if name == f"/{inside}":
            inside = ""
        elif not inside and (name == "title" or name in _HIDDEN):
            inside = name
        if closed and inside not in _HIDDEN:
            (title if inside == "title" else text).append(words)
    heading = html.unescape(" ".join(title)).strip()
    rest = " ".join(html.unescape(" ".join(text)).split())
    if not heading or rest.startswith(heading):
        return rest
    return f"{heading}: {rest}" if rest else heading


def mask(words: str, secrets: Iterable[str]) -> str:
    """Replace every secret in the words by `***`: as it is, without its scheme, decoded from or
    encoded as base64, escaped for URLs, JSON and HTML, and cut off at the end of the words.

    `secrets` are header values, such as `Bearer x` or `Basic dTpw`. One of fewer than six
    characters is replaced where it stands as a word of its own.
    """
    forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    if not forms:
        return words
    masked = re.sub("|".join(map(_pattern, forms)), MASK, words)
    return _mask_end(masked, forms)


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) >= _SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"


def _mask_end(words: str, forms: list[str]) -> str:
    """Words that were cut may end in the first part of a secret, which is still most of it."""
    text = words.removesuffix(_ELLIPSIS)
    if text == words:
        return words
    for form in forms:
        for length in range(min(len(form) - 1, len(text)), _SHORT - 1, -1):
            if text.endswith(form[:length]):
                return text[:-length] + MASK + _ELLIPSIS
    return words


_USER_OF_URL = re.compile(r"//([^/@:]+)[^/@]*@")


def _forms(secret: str) -> Iterator[str]:
    whole = " ".join(secret.split())
    if not whole:
        return
    _scheme, _, credentials = whole.partition(" ")
    for part in (whole, credentials):
        if part:
            yield part
        for plain in (part, *_decoded(part)):
            user, _, password = plain.partition(":")
            for piece in (plain, user, password, *_USER_OF_URL.findall(plain)):
                if len(piece) >= _SHORT:
                    yield from _escapes(piece)


def _escapes(plain: str) -> Iterator[str]:
    raw = plain.encode("utf-8", "backslashreplace")
    yield plain
    yield json.dumps(plain, ensure_ascii=False)[1:-1]
    yield json.dumps(plain)[1:-1]
    yield html.escape(plain)
    yield quote(raw, safe="")
    yield quote_plus(raw)
    unquoted = unquote(plain)
    if len(unquoted) >= _SHORT:
        yield unquoted
    for encoded in (b64encode(raw), urlsafe_b64encode(raw)):
        text = encoded.decode()
        yield text
        yield text.rstrip("=")


def _decoded(part: str) -> Iterator[str]:
    """What the part says if it is base64 of readable text, as in Basic."""
    padded = part.rstrip("=") + "=" * (-len(part.rstrip("=")) % 4)
    try:
        text = b64decode(padded.replace("-", "+").replace("_", "/"), validate=True).decode()
    except ValueError:
        return
    if len(text) >= _SHORT and text.isprintable():
        yield text
