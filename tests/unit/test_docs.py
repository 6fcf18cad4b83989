"""Links lead somewhere; every command names files and targets that exist, or says why it is not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("roles/*/README.md")])
BLOCK = re.compile(r"(?P<marker><!-- not run: .+? -->\s*)?^ *```(?:console|bash|sh)\n(?P<body>.*?)^ *```", re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Each command line of a block that is not marked, with its page."""
    found = []
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text()):
            if not block["marker"]:
                body = block["body"].replace("\\\n", " ")
                found += [(page.name, line.strip()) for line in body.splitlines() if line.strip()]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(("page", "command"), commands(), ids=[f"{page}: {line[:60]}" for page, line in commands()])
def test_commands_name_what_exists(page: str, command: str) -> None:
    words = command.split()
    for target in words[1:] if words[0] == "make" else []:
        assert "=" in target or re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), command
    for word in words:
        if re.match(r"@?(playbooks|inventories|molecule|docs|examples|tests)/", word):
            assert (ROOT / word.lstrip("@")).exists() or words[0] == "cp", command
        if word.endswith(".yml") and "/" not in word:
            assert (ROOT / word).exists(), command
