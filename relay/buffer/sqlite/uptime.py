"""The clock of the host's uptime, which only runs on, and which uptime it is."""

import time
from functools import partial
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


# Nanoseconds since the host started, sleep included: it never jumps.
uptime_ns = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)


def boot_number(path: Path = _BOOT_ID) -> int:
    """A number of this start of the host; 0 where it cannot be told."""
    try:
        return int(path.read_text("ascii").replace("-", "")[:15], 16)
    except (OSError, ValueError):
        return 0
