"""Documents link only to what exists, and the index of docs/ names every page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
# From the last table of docs/glossary.md, what can be told by the words alone. Decisions and the
# changelog are history, and the glossary itself has to name them.
NOT_USED = re.compile(
    r"(?i)\b(?:(?:gives?|gave|giving) way|(?:sets?|setting) aside|comes? again|no hex|mend)\b"
)
HISTORY = {ROOT / "CHANGELOG.md", DOCS / "glossary.md", *DOCS.glob("decisions/0*.md")}
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def prose_of(path: Path) -> str:
    """The text without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```", "", path.read_text())


def anchors_of(path: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, no punctuation, dashes for spaces."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose_of(path))
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for name, anchor in LINK.findall(prose_of(document)):
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(f"{name}#{anchor}" if anchor else name)

    assert broken == []


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path not in HISTORY],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_one_word_for_one_thing(document: Path) -> None:
    """What a command prints today is quoted as code, and may still say it otherwise."""
    prose = re.sub(r"`[^`]*`", "", prose_of(document))

    assert NOT_USED.findall(prose) == []


def test_index_names_every_page_of_its_folder() -> None:
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    folders = {f"{path.name}/README.md" for path in DOCS.iterdir() if path.is_dir()}

    rows = re.findall(r"(?m)^\| \[[^]]+\]\(([^)]+)\) \|", (DOCS / "README.md").read_text())

    assert sorted(rows) == sorted(pages | folders)


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text()))

    named = {
        (document.name, target)
        for document in DOCUMENTS
        for target in re.findall(
            r"(?m)(?:`|^|&& |sudo )make ([a-z][a-z0-9-]*)", document.read_text()
        )
    }

    assert {each for each in named if each[1] not in targets} == set()
