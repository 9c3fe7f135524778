"""The head of a response as it comes off the wire, made one that the engine takes.

What servers and proxies send is read by curl and browsers with more patience than by the engine:
a blank before the colon made it refuse a response to spans that had been taken, and they were sent
again for ever. What can be understood is put right and noted in `mended`. Interim responses (1xx)
end here too: nothing waits for them, and without a limit they would cost everybody's time.
"""

import re
from collections.abc import Iterable

MAX_INTERIM = 16
MAX_BYTES = 256 * 1024
MAX_FIELDS = 1000  # more are passed over

_FIELD_NAME = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
_VALUE = rb"[^\x00\n\v\f\r]*"
# The usual head: nothing in it needs to be looked at. Of framing, only what leaves no doubt.
_PLAIN = re.compile(
    rb"HTTP/1\.[01] [2-9][0-9]{2}(?: " + _VALUE + rb")?\r\n"
    rb"(?i:(?:(?!content-length|transfer-encoding)" + _FIELD_NAME + rb":" + _VALUE + rb"|"
    rb"content-length:[ \t]*[0-9]{1,18}[ \t]*|transfer-encoding:[ \t]*chunked[ \t]*)\r\n)*\r\n"
)
_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])[ \t]+([1-9][0-9]{2})(?:[ \t]+(.*))?", re.IGNORECASE)
_NAME = re.compile(_FIELD_NAME)
_STRANGE = re.compile(rb"[\x00\v\f\r]")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class EndlessHead(Exception):
    """The peer sends and sends, and no response. Its text continues "it sent"."""


def is_plain(data: bytes) -> bool:
    """Whether `data` begins with the whole head of a final response that needs no mending."""
    found = _PLAIN.match(data)
    if found is None:
        return False
    head = found[0].lower()
    if head.count(b"\n") > MAX_FIELDS:
        return False
    return head.count(b"\ncontent-length:") + head.count(b"\ntransfer-encoding:") < 2


class HeadReader:
    """Takes the bytes of one response until its head is there.

    `mended` is the first line that broke a rule of HTTP, empty if none did.
    """

    def __init__(self) -> None:
        self.mended = ""
        self._data = bytearray()
        self._searched = 0
        self._arrived = 0
        self._interim = 0

    def feed(self, data: bytes) -> bytes | None:
        """The head, mended, and what came behind it; None while there is more to come.

        What is not HTTP is given on as it is. Raises EndlessHead.
        """
        self._arrived += len(data)
        self._data += data
        while True:
            if self._data.startswith((b"\r", b"\n")):
                self._data = self._data.lstrip(b"\r\n")
            if not b"http/".startswith(self._data[:5].lower()):
                return bytes(self._data)
            end = _END.search(self._data, max(0, self._searched - 2))
            behind = len(self._data) - end.end() if end else 0
            if self._arrived - behind > MAX_BYTES:
                raise EndlessHead(f"{MAX_BYTES // 1024} KiB and no end of the head of a response")
            if end is None:
                self._searched = len(self._data)
                return None
            mended = self._mend(bytes(self._data[: end.end()]))
            del self._data[: end.end()]
            if mended is not None:
                return mended + self._data
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise EndlessHead(f"more than {MAX_INTERIM} interim responses (1xx) and no other")
            self._searched = 0

    def _mend(self, head: bytes) -> bytes | None:
        """The head as HTTP demands it; None for an interim response."""
        first, *lines = [line.removesuffix(b"\r") for line in head.rstrip(b"\r\n").split(b"\n")]
        status_line = _STATUS_LINE.fullmatch(self._printable(first))
        if status_line is None:
            return head
        minor, status, reason = status_line.groups(b"")
        if status[:1] == b"1" and status != b"101":
            return None
        fields = self._framed([*self._fields(lines)])
        version = b"1.0" if minor == b"0" else b"1.1"
        return b"\r\n".join((b"HTTP/%b %b %b" % (version, status, reason), *fields, b"", b""))

    def _fields(self, lines: Iterable[bytes]) -> Iterable[tuple[bytes, bytes]]:
        """Names and values, without the lines that are neither."""
        found: list[tuple[bytes, bytes]] = []
        for line in lines:
            text = self._printable(line)
            name, colon, value = text.partition(b":")
            if text[:1] in (b" ", b"\t"):  # the line before goes on
                name, value = found.pop() if found else (b"", b"")
                value += b" " + text.strip(b" \t")
            elif not colon or name[-1:] in (b" ", b"\t"):
                self._note(line)
                name = name.rstrip(b" \t") if colon else b""
            if _NAME.fullmatch(name):
                found.append((name, value.strip(b" \t")))
            else:
                self._note(line)
        return found

    def _framed(self, fields: list[tuple[bytes, bytes]]) -> list[bytes]:
        """The fields as lines, with one framing that leaves no doubt where the body ends.

        Where there is doubt the connection is not used again, so that nothing is misread.
        """
        lengths = _of(fields, b"content-length")
        named = [each.lower() for each in _of(fields, b"transfer-encoding")]
        codings = [each for each in named if each not in _NO_CODING]
        others = [(n, v) for n, v in fields if n.lower() not in _FRAMING][:MAX_FIELDS]
        lines = [b"%b: %b" % field for field in others]
        if codings:
            is_chunked, is_sure = codings[-1] == b"chunked", codings == [b"chunked"]
            framing = [b"Transfer-Encoding: chunked"] if is_chunked else []
        else:
            sizes = {int(each) for each in lengths if _LENGTH.fullmatch(each)}
            is_sure = len(sizes) == len(set(lengths)) <= 1
            framing = [b"Content-Length: %d" % min(sizes)] if sizes else []
        if not is_sure or named != codings:
            self._note(b", ".join((*named, *lengths)))
        if not is_sure:
            framing.append(b"Connection: close")
        return [*lines, *framing]

    def _printable(self, line: bytes) -> bytes:
        if _STRANGE.search(line):
            self._note(line)
            return _STRANGE.sub(b" ", line)
        return line

    def _note(self, line: bytes) -> None:
        self.mended = self.mended or line[:200].decode("latin-1").strip()


_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_NO_CODING = frozenset({b"identity", b""})  # RFC 2616 had the first; its servers are still there


def _of(fields: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of every field of that name."""
    return [part.strip() for n, v in fields if n.lower() == name for part in v.split(b",")]
