"""Draws the picture in docs/architecture.md from what the modules of relay/ import.

`make architecture` writes it; with `--check` nothing is changed, and the exit code is 1 when the
picture is not what the code says. The levels are those that tests/test_architecture.py enforces.
An arrow that others imply is left out: cli → daemon → buffer makes cli → buffer superfluous.
"""

import ast
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "architecture.md"
LEVELS_FILE = ROOT / "tests" / "test_architecture.py"
BEGIN = "<!-- Drawn by scripts/architecture.py from the imports: run it after a change. -->"
END = "<!-- End of the drawing. -->"

# A folder inside a room that is drawn as a room of its own: an engine behind an interface.
OWN_BOXES = ("relay.buffer.sqlite", "relay.buffer.kafka")
# Everybody may use these, and an arrow from each box would hide the others.
NOT_DRAWN = ("relay.version",)

Arrows = dict[str, set[str]]


def levels() -> dict[str, int]:
    """Level by room or module, as the import rule knows it."""
    for node in ast.parse(LEVELS_FILE.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEVELS":
            found: dict[str, int] = ast.literal_eval(node.value)
            return found
    raise LookupError(f"no LEVELS in {LEVELS_FILE}")


def modules() -> dict[str, Path]:
    """Every module of relay/ by its dotted name."""
    found = {}
    for path in sorted((ROOT / "relay").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found["relay"]
    return found


def room_of(module: str) -> str:
    """The box that a module is drawn in: `relay.deliver.courier` is in `relay.deliver`."""
    for room in OWN_BOXES:
        if module == room or module.startswith(room + "."):
            return room
    return ".".join(module.split(".")[:2])


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of relay/ that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            found |= names if len(names) == len(node.names) else {*names, node.module}
    return found & known.keys()


def arrows() -> Arrows:
    """Which rooms each room imports from."""
    known = modules()
    found: Arrows = {room_of(module): set() for module in known if module not in NOT_DRAWN}
    for module, path in known.items():
        for imported in imports_of(path, known):
            pair = room_of(module), room_of(imported)
            if pair[0] != pair[1] and not {*pair} & {*NOT_DRAWN}:
                found[pair[0]].add(pair[1])
    return found


def reachable(start: str, graph: Arrows) -> set[str]:
    """Every room that can be come to from `start` by at least one arrow."""
    found: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        room = ahead.pop()
        if room not in found:
            found.add(room)
            ahead += graph[room]
    return found


def reduced(graph: Arrows) -> Arrows:
    """The same order with as few arrows as can be; those of rooms in a circle all stay."""
    far = {room: reachable(room, graph) for room in graph}

    def are_in_a_circle(one: str, other: str) -> bool:
        return one in far[other] and other in far[one]

    def is_implied(room: str, target: str) -> bool:
        return any(
            target in far[via]
            and not are_in_a_circle(via, room)
            and not are_in_a_circle(via, target)
            for via in graph[room] - {target}
        )

    return {
        room: {target for target in targets if not is_implied(room, target)}
        for room, targets in graph.items()
    }


def level_of(room: str, known: dict[str, int]) -> int:
    """A room's own level, or the highest of what is in it."""
    inside = [level for name, level in known.items() if name.startswith(room + ".")]
    return known[room] if room in known else max(inside)


def drawing() -> str:
    """The picture, as Mermaid between its marks. Rooms that import each other stand out: <-->."""
    graph, known = reduced(arrows()), levels()
    lines = [BEGIN, "", "```mermaid", "flowchart TB"]
    order = sorted(graph, key=lambda room: (-level_of(room, known), room))
    for level, rooms in groupby(order, lambda room: level_of(room, known)):
        lines.append(f'  subgraph level{level}[" "]')
        lines += [f'    {_id(room)}["{_label(room)}"]' for room in rooms]
        lines.append("  end")
    for room in order:
        for target in sorted(graph[room]):
            is_mutual = room in graph[target]
            if not is_mutual or room < target:
                lines.append(f"  {_id(room)} {'<-->' if is_mutual else '-->'} {_id(target)}")
    return "\n".join([*lines, "```", "", END])


def _label(room: str) -> str:
    return room.removeprefix("relay.")


def _id(room: str) -> str:
    return _label(room).replace(".", "_")


def main() -> int:
    """Write the picture, or with --check say whether it is right."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    right = f"{before}{drawing()}{after}"
    if "--check" in sys.argv[1:]:
        if text != right:
            print(
                "docs/architecture.md: the picture is not what the code imports.", file=sys.stderr
            )
            print("Run `make architecture` and commit the result.", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(right)
    return 0


if __name__ == "__main__":
    sys.exit(main())
