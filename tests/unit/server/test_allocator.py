"""What is freed after a batch is there for the next one."""

import ctypes
import subprocess
import sys

import pytest

from relay.server.allocator import calm_allocator

# Batches of 24 MiB in pieces of 1 MiB, each freed before the next; prints the page faults of all
# but the first.
BATCHES = """
import resource, sys
from relay.server.allocator import calm_allocator
if sys.argv[1] == "calm":
    calm_allocator()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def batch():
    return [b"x" * (1 << 20) for _ in range(24)]
batch()
before = faults()
for _ in range(10):
    batch()
print(faults() - before)
"""


def faults_of(kind: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", BATCHES, kind], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="no glibc")
def test_next_batch_needs_no_new_pages() -> None:
    assert faults_of("calm") < 6144 < faults_of("as it is")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())

    calm_allocator()
