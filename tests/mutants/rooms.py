"""Which tests speak for a module: those of its room, the ones that name it first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# A room whose modules are changed, and its tests. Not those that need minutes or a quiet machine.
CORE: Final[Mapping[str, Sequence[str]]] = {
    "relay/process/check": (
        "tests/unit/process",
        "tests/unit/ingest",
        "tests/integration/test_ingest_bodies.py",
    ),
    "relay/otlp": (
        "tests/unit/otlp",
        "tests/unit/process",
        "tests/integration/test_ingest_bodies.py",
        "tests/unit/deliver/test_age.py",
        "tests/unit/deliver/test_batches.py",
        "tests/unit/upstream",
        "tests/unit/view",
        "tests/unit/genai",
    ),
    "relay/ingest": (
        "tests/unit/ingest",
        "tests/integration/test_ingest_answers.py",
        "tests/integration/test_ingest_bodies.py",
        "tests/integration/test_offload.py",
        "tests/integration/test_loops.py",
    ),
    "relay/deliver": (
        "tests/unit/deliver",
        "tests/unit/dead_letters",
        "tests/unit/admin",
        "tests/integration/test_deliver.py",
        "tests/integration/test_encoding_fallback.py",
    ),
    "relay/buffer": (
        "tests/unit/buffer",
        "tests/unit/offline",
        "tests/unit/traces",
        "tests/unit/view",
        "tests/integration/test_replay.py",
        "tests/unit/salvage",
        "tests/unit/dead_letters",
        "tests/unit/deliver/test_whole_traces.py",
    ),
}
# What keeps its records on brokers: tried by itself, since that needs Java, and far longer.
FLEET: Final[Mapping[str, Sequence[str]]] = {
    "relay/buffer/kafka": ("tests/unit/buffer/kafka", "tests/fleet"),
}
ROOMS: Final = {**CORE, **FLEET}


def modules(root: Path, rooms: Mapping[str, Sequence[str]]) -> list[Path]:
    """Every module of those rooms, relative to `root`."""
    return sorted(
        path.relative_to(root)
        for room in rooms
        for path in (root / room).rglob("*.py")
        if path.name != "__main__.py" and room == _room_of(path.relative_to(root))
    )


def files_for(module: Path, root: Path) -> list[str]:
    """The files of tests for a module, those that are likely to notice first."""
    room = _room_of(module)
    inner = [root / name for each in ROOMS if each.startswith(f"{room}/") for name in ROOMS[each]]
    files: list[Path] = []
    for name in ROOMS[room]:
        place = root / name
        found = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
        files += (path for path in found if not any(map(path.is_relative_to, inner)))
    dotted = ".".join(module.with_suffix("").parts)

    def rank(item: tuple[int, Path]) -> tuple[bool, bool, int]:
        at, path = item
        return (module.stem not in path.stem, dotted not in path.read_text("utf-8"), at)

    return [str(path.relative_to(root)) for _at, path in sorted(enumerate(files), key=rank)]


def _room_of(module: Path) -> str:
    """The innermost room that it stands in."""
    return max((room for room in ROOMS if module.is_relative_to(room)), key=len)
