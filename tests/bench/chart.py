"""A run as a picture: CPU an item of each program, as a multiple of rotel's."""

from collections.abc import Iterator
from xml.sax.saxutils import escape

from tests.bench.report import measured_rows
from tests.bench.results import COLLECTOR, OURS, PURE, ROTEL, Results

COLOURS = {OURS: "#0a7d5a", PURE: "#6fbf9f", ROTEL: "#8a8f98", COLLECTOR: "#c8742a"}
LEFT, WIDTH, BAR, GAP, TOP = 270, 560, 13, 16, 64
RIGHT = 70  # for the number behind the longest bar


def draw(results: Results) -> str:
    """An SVG; rows without rotel are left out."""
    groups = [
        (row.name, _multiples(results, row.name))
        for row in measured_rows(results)
        if ROTEL in results.programs(row.name)
    ]
    longest = max((ratio for _, bars in groups for _, ratio in bars), default=1.0)
    height = TOP + sum(len(bars) * BAR + GAP for _, bars in groups)
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" font-family="sans-serif"',
            f'viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" font-size="12" fill="#1c2024">',
            "<title>CPU an item, rotel = 1: less is better</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            '<text x="12" y="24" font-size="16">CPU an item, rotel = 1 (less is better)</text>',
            *_legend({each for _, bars in groups for each, _ in bars}),
            *_bars(groups, WIDTH / longest),
            "</svg>",
            "",
        ]
    )


def _multiples(results: Results, row: str) -> list[tuple[str, float]]:
    found = [(each, results.ratio(row, each, ROTEL)) for each in COLOURS]
    return [(each, ratio) for each, ratio in found if ratio is not None]


def _legend(programs: set[str]) -> Iterator[str]:
    at = 12
    for program, colour in COLOURS.items():
        if program in programs:
            yield f'<rect x="{at}" y="36" width="12" height="12" fill="{colour}"/>'
            yield f'<text x="{at + 17}" y="46">{escape(program)}</text>'
            at += 40 + 7 * len(program)


def _bars(groups: list[tuple[str, list[tuple[str, float]]]], scale: float) -> Iterator[str]:
    top = TOP
    for name, bars in groups:
        middle = top + len(bars) * BAR / 2 + 4
        yield f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(name)}</text>'
        for program, ratio in bars:
            width = max(ratio * scale, 1)
            yield (
                f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR - 2}" '
                f'fill="{COLOURS[program]}"/>'
            )
            yield (
                f'<text x="{LEFT + width + 5:.1f}" y="{top + BAR - 3}" font-size="10">'
                f"{ratio:.2f}</text>"
            )
            top += BAR
        top += GAP
