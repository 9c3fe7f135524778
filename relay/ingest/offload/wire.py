"""Messages and bytes in, the same at the other end of a socket out.

::

    sizes of both (two uint32) · message in msgpack · raw bytes, such as a body

Raw bytes are received right into the object that is used: a body of 64 MiB is never copied while
the interpreter's lock is held. Both ends are of one version, since one spawns the other.
"""

import socket
import struct
from typing import Final

import msgspec

from relay.process.prepare import PrepareSettings

_SIZES: Final = struct.Struct("<II")


class Job(msgspec.Struct, array_like=True, tag=0):
    """A body to prepare, which follows raw; under which settings; what it may take.

    `seconds` are of a processor, `memory_bytes` the process's whole address space.
    """

    encoding: int
    is_local: bool
    settings: PrepareSettings
    seconds: float
    memory_bytes: int
    signal: int = 1


class PieceMade(msgspec.Struct, array_like=True, tag=1):
    """A piece whose body follows raw."""

    items: int
    trace_ids: bytes
    services: tuple[str, ...]
    flags: int


class ItemRejected(msgspec.Struct, array_like=True, tag=2):
    """What was rejected; its fragment follows raw."""

    reason: str
    path: str
    trace_id: str
    items: int


class Done(msgspec.Struct, array_like=True, tag=3):
    """The end of a job. `status` is 0 when something can be kept, else that of a refusal.

    `seconds` of a processor it took. `is_last`: the process ends now. `frames` tell where a bug is;
    then nothing else counts.
    """

    message: str = ""
    items: int = 0
    rejected_by_reason: dict[str, int] = {}
    warnings: dict[str, int] = {}
    status: int = 0
    grpc_code: int = 0
    is_all_rejected: bool = False
    seconds: float = 0.0
    is_last: bool = False
    frames: str = ""


class Ready(msgspec.Struct, array_like=True, tag=4):
    """The process has loaded what it needs."""


Message = Job | PieceMade | ItemRejected | Done | Ready

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class Channel:
    """One end of a blocking stream socket. Raises OSError and EOFError when the other is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, message: Message, raw: bytes = b"") -> None:
        """Send a message and the bytes that belong to it."""
        encoded = _encoder.encode(message)
        self._socket.sendall(_SIZES.pack(len(encoded), len(raw)) + encoded)
        if raw:
            self._socket.sendall(raw)

    def receive(self) -> tuple[Message, bytes]:
        """The next message and its bytes."""
        message_bytes, raw_bytes = _SIZES.unpack(self._receive(_SIZES.size))
        message = _decoder.decode(self._receive(message_bytes))
        return message, self._receive(raw_bytes) if raw_bytes else b""

    def close(self) -> None:
        """Close this end; the other one meets the end of the stream."""
        self._socket.close()

    def _receive(self, size: int) -> bytes:
        received = self._socket.recv(size, socket.MSG_WAITALL)
        if len(received) == size:
            return received
        parts = [received]
        missing = size - len(received)
        while missing:
            part = self._socket.recv(missing, socket.MSG_WAITALL)
            if not part:
                raise EOFError("the other end is gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
