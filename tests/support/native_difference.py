"""Bodies through both paths: what is taken natively must be what the Python path makes of it.

They count how much is taken: a pass that takes nothing agrees with everything.
"""

from collections import Counter
from functools import partial
from typing import Any

from relay.model.records import Encoding, Sender, Signal
from relay.process.prepare import Prepare, PrepareSettings

NOW_NS = 1_764_470_000 * 10**9
SETTINGS = PrepareSettings(
    detected={"host.name": "h1", "host.arch": "amd64", "os.type": "linux"},
    configured={"deployment.environment.name": "prod", "team": "é"},
)
SENDERS = {is_local: Sender("127.0.0.1", is_local=is_local) for is_local in (True, False)}


class Difference(AssertionError):
    """The two paths do not agree."""


class BothPaths:
    """Prepares bodies both ways. `taken` and `left` count what the native pass did, by signal."""

    def __init__(self, module: Any, settings: PrepareSettings = SETTINGS) -> None:
        self.taken: Counter[Signal] = Counter()
        self.left: Counter[Signal] = Counter()
        clock = partial(int, NOW_NS)
        self._native = Prepare(settings, clock_ns=clock, native_pass=module)
        self._pure = Prepare(settings, clock_ns=clock, native_pass=None)

    def compare(
        self, body: bytes, encoding: Encoding, signal: Signal, *, is_local: bool = True
    ) -> bool:
        """Whether the native pass took it. Raises Difference."""
        assert self._native._native is not None
        made = self._native._native(body, encoding, signal, is_local, NOW_NS, False)
        if made is None:
            self.left[signal] += 1
            return False
        self.taken[signal] += 1
        sender = SENDERS[is_local]
        ours = self._native(body, encoding, sender, signal=signal)
        try:
            theirs: Any = self._pure(body, encoding, sender, signal=signal)
        except Exception as error:
            raise Difference(f"taken, but refused by Python: {error!r}\n{body!r}") from error
        for name in ours._fields:
            mine, other = getattr(ours, name), getattr(theirs, name)
            if mine != other:
                raise Difference(f"{name}: {mine!r}\nPython: {other!r}\n{body!r}")
        return True
