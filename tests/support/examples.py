"""How many examples the property tests draw: all in `make proofs`, a quarter in `make test`.

A test says what it needs in full, `@settings(max_examples=examples(400))`, and the profile that
pytest runs with (`--hypothesis-profile`) says which share of that it gets.
"""

from hypothesis import settings

FULL, SHORT = "full", "short"
_SHARES = {FULL: 100, SHORT: 25}  # also what a test gets that names no number


def register() -> None:
    """Make the profiles known and take the short one, until pytest loads another."""
    for name, share in _SHARES.items():
        # No deadline: how long one example took tells what else wanted the processors.
        settings.register_profile(name, max_examples=share, deadline=None)
    settings.load_profile(SHORT)


def examples(full: int) -> int:
    """Of so many examples the share that this run draws, at least one."""
    return max(1, full * settings().max_examples // _SHARES[FULL])
