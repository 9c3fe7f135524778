"""The items of a dead letter as OTLP JSON of one line."""

import msgspec

from relay.model.reasons import Reason
from relay.model.records import DeadLetter, Encoding
from relay.otlp import transcode
from relay.otlp.signals import WIRE
from relay.otlp.transcode import TranscodeError

_is_json = msgspec.json.Decoder(list[msgspec.Raw]).decode


def json_line(letter: DeadLetter) -> str:
    """The letter's items as one request on one line. Raises TranscodeError."""
    return (WIRE[letter.signal].json_request % json_fragment(letter)).decode()


def json_fragment(letter: DeadLetter) -> bytes:
    """Its entries as JSON of one line, comma-joined. Raises TranscodeError."""
    if letter.reason == Reason.BODY_UNREADABLE:
        raise TranscodeError("it is the body of a request that could not be read when it came")
    if letter.encoding is Encoding.PROTOBUF:
        return transcode.to_json(letter.body, letter.signal)
    # Inside a JSON text a line break stands between values only.
    fragment = letter.body.replace(b"\n", b" ").replace(b"\r", b" ")
    try:
        _is_json(b"[%b]" % fragment)
        fragment.decode()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TranscodeError(transcode.describe_error("JSON", error)) from None
    return fragment
