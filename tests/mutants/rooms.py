"""Which tests speak for a module: those of its room, the ones that name it first."""

from pathlib import Path
from typing import Final

# A room whose modules are changed, and its tests. Not those that need minutes or a quiet machine.
ROOMS: Final = {
    "relay/process/check": (
        "tests/unit/process",
        "tests/unit/ingest",
        "tests/integration/test_ingest_bodies.py",
    ),
    "relay/otlp": (
        "tests/unit/otlp",
        "tests/unit/process",
        "tests/integration/test_ingest_bodies.py",
        "tests/unit/deliver/test_batches.py",
        "tests/unit/upstream",
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
        "tests/integration/test_deliver.py",
        "tests/integration/test_encoding_fallback.py",
    ),
    "relay/buffer": (
        "tests/unit/buffer",
        "tests/unit/offline",
        "tests/unit/traces",
        "tests/integration/test_replay.py",
        "tests/unit/salvage",
        "tests/unit/dead_letters",
    ),
}


def modules(root: Path) -> list[Path]:
    """Every module of the rooms, relative to `root`."""
    return sorted(
        path.relative_to(root)
        for room in ROOMS
        for path in (root / room).rglob("*.py")
        if path.name != "__main__.py"
    )


def files_for(module: Path, root: Path) -> list[str]:
    """The files of tests for a module, those that are likely to notice first."""
    room = next(room for room in ROOMS if module.is_relative_to(room))
    files: list[Path] = []
    for name in ROOMS[room]:
        place = root / name
        files += sorted(place.glob("test_*.py")) if place.is_dir() else [place]
    dotted = ".".join(module.with_suffix("").parts)

    def rank(item: tuple[int, Path]) -> tuple[bool, bool, int]:
        at, path = item
        return (module.stem not in path.stem, dotted not in path.read_text("utf-8"), at)

    return [str(path.relative_to(root)) for _at, path in sorted(enumerate(files), key=rank)]
