"""Every error of ours, in one tree. Foreign exceptions are turned into these at the borders.

::

    RelayError
    ├── ConfigError          a setting cannot be used: key, file, value, what would be right
    │   ├── SecretUnset      a ${env|file|credential:…} that has no value now
    │   │   └── NoCredentials   this process was not started by a service manager
    │   └── ConfigProblems, Faults   several of them at once (config)
    ├── Refusal              a request is refused as a whole; becomes an HTTP response
    │   └── AllItemsRejected, HttpRefusal   (process.check, ingest)
    ├── UnknownDestination   what is asked about a destination that there is not
    ├── ControlRefused       an operator's wish that cannot be granted; nothing was changed
    ├── NotSaved, UnknownDeadLetter, ReplayRefused, BadQuery, Overtaken
    │                        of config.saved, dead_letters, admin, salvage: where they are raised
    ├── DaemonUnreachable, NoDaemon, DaemonRefused   what a command hears of the daemon (cli)
    └── BufferFailure
        ├── BufferFull       no space by `max_size` or `min_free`: 503, the sender retries
        ├── BufferUnavailable   the disk failed or the buffer is closing: 503
        │   ├── NoBuffer        there is no buffer in the state directory (offline)
        │   ├── BufferUnusable  the state directory cannot be one, until somebody changes it
        │   └── BufferDiskError the disk does not accept anything at the start: retry later
        └── BufferLocked     another daemon holds the state directory

A class without a message speaks by its docstring. `code` is stable: metrics and JSON carry it.

Outside the tree stand exceptions that never leave their room, because something there catches
each: SenderGone, OffloadDied and OffloadFailed (ingest), Unusual and Misfit (otlp), LimitPassed
(server), StepFailed (doctor), RowMissing, NewerSchema and DamagedRanges (buffer). TooHeavy is
raised in otlp and process, and sends a body from the event loop to the offload process.
"""

from typing import ClassVar


class RelayError(Exception):
    """Something went wrong in otlp-relay."""

    code: ClassVar[str] = "relay_error"

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(RelayError):
    """The configuration cannot be used."""

    code = "config_error"

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        source: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.key = key
        self.source = source
        where = ": ".join(part for part in (source, key) if part)
        super().__init__(f"{where}: {message}" if where else message, hint=hint)


class SecretUnset(ConfigError):
    """A secret that the configuration names has no value."""

    code = "secret_unset"


class NoCredentials(SecretUnset):
    """Credentials are there only for what the service manager starts."""

    code = "no_credentials"


class Refusal(RelayError):
    """A request refused as a whole: HTTP status and google.rpc code (OTLP 1.11, "Failures").

    `message` goes to the sender: it names positions and paths, never bytes of the body.
    """

    code = "refused"

    def __init__(self, message: str, *, status: int = 400, grpc_code: int = 3) -> None:
        super().__init__(message)
        self.status = status
        self.grpc_code = grpc_code


class TooHeavy(Exception):
    """Decoding or checking this body would hold the event loop for too long."""


class UnknownDestination(RelayError):
    """There is no destination of that name."""

    code = "unknown_destination"

    @classmethod
    def named(cls, name: str) -> "UnknownDestination":
        """The error for `name`."""
        return cls(f"there is no destination {name!r}")


class ControlRefused(RelayError):
    """The daemon does not do what was asked, and nothing was changed."""

    code = "control_refused"


class BufferFailure(RelayError):
    """The buffer on disk could not do what was asked."""

    code = "buffer_error"


class BufferFull(BufferFailure):
    """The buffer is full; nothing was kept of this request."""

    code = "buffer_full"


class BufferUnavailable(BufferFailure):
    """The buffer cannot write now; nothing was kept of this request."""

    code = "buffer_unavailable"


class BufferUnusable(BufferUnavailable):
    """The state directory cannot be used as it is set."""

    code = "buffer_unusable"


class BufferDiskError(BufferUnavailable):
    """The disk cannot be used now."""

    code = "buffer_disk_error"


class BufferLocked(BufferFailure):
    """Another otlp-relay holds this state directory."""

    code = "buffer_locked"
