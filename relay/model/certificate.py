"""How long a certificate is still valid, and when that is soon."""

import ssl
import time
from collections.abc import Mapping
from typing import Final

EXPIRES_SOON_DAYS: Final = 14


def days_left(certificate: Mapping[str, object]) -> int | None:
    """Whole days until it expires, negative afterwards; None where it does not say.

    `certificate` is what `ssl.SSLSocket.getpeercert` returns.
    """
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return None
    return int((ssl.cert_time_to_seconds(ends) - time.time()) // 86_400)
