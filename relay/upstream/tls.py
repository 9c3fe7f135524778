"""Whom a destination trusts and what it shows of itself, as the TLS context of its connections."""

import contextlib
import ssl
from collections.abc import Iterator

import anyio
import httpcore2
from anyio.streams.tls import TLSStream

from relay.config import DestinationConfig
from relay.model.errors import ConfigError


def tls_context(settings: DestinationConfig) -> ssl.SSLContext:
    """The TLS context of a destination: its own CA or the system's, and its client certificate.

    Reads files: call it in a thread. Raises ConfigError that names the key and the file.
    """
    if settings.ca_file:
        with _reading("ca_file", str(settings.ca_file)):
            context = ssl.create_default_context(cafile=settings.ca_file)
        # From Python 3.13 on an own authority without key identifiers would be refused, which it
        # is neither before nor by curl: what is trusted by name is checked the same everywhere.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    else:
        context = httpcore2.default_ssl_context()
    if settings.client_cert:
        files = (settings.client_cert, settings.client_key)
        with _reading("client_cert", " or ".join(str(file) for file in files if file)):
            # An empty password: OpenSSL would ask on the terminal for an encrypted key.
            context.load_cert_chain(*files, password=b"")
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.contextmanager
def _reading(key: str, path: str) -> Iterator[None]:
    """Turns what goes wrong with a file of certificates into a ConfigError."""
    try:
        yield
    except ssl.SSLError as error:
        said = error.reason or "it holds no certificate"
        raise ConfigError(f"{path} cannot be used ({said})", key=key) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", key=key) from error


async def speaks_tls(host: str, port: int, seconds: float) -> bool:
    """Whether a TLS server answers there. Nothing is sent but the handshake; nobody is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with anyio.fail_after(seconds):
            async with await anyio.connect_tcp(host, port) as stream:
                secure = await TLSStream.wrap(
                    stream, ssl_context=context, hostname=host, standard_compatible=False
                )
                await anyio.aclose_forcefully(secure)
    except ssl.SSLError as error:
        # An alert is TLS too; what is no record at all is not.
        return "ALERT" in (error.reason or "").upper()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
        return False
    return True
