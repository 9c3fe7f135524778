"""Lets the C library's allocator keep what it has, instead of giving it back after each batch."""

import ctypes
from contextlib import suppress

MIB = 1024 * 1024
# From <malloc.h> of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
# Above what one group commit and one batch for an upstream need together.
_TRIM_BYTES = 64 * MIB
_MMAP_BYTES = 32 * MIB  # the most that glibc takes
_TOP_PAD_BYTES = MIB


def calm_allocator() -> None:
    """Keep up to 64 MiB of free memory, so that the next batch needs no new pages of the kernel.

    For a process of its own, before it has threads. Does nothing where the C library is another.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, _TRIM_BYTES)
        mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_TOP_PAD, _TOP_PAD_BYTES)
