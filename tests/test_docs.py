"""The prose keeps its word: links lead somewhere, commands exist, the lesson has its answers."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from soilkit.show import reports
from soilkit.show.reports.__main__ import parameter

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [page for page in PAGES if "api" not in page.parts]
EPISODES = sorted(ROOT.glob("docs/lesson/[0-9]_*.md"))
ANSWERS = ROOT / "docs" / "lesson" / "answers.ipynb"


def commands(text):
    """The lines of code blocks that call Python, continued lines joined."""
    fences = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    blocks = [block for language, block in fences if language in ("", "bash", "powershell")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0] for line in lines if "python -m " in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_of_a_page_leads_to_a_file(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    assert [t for t in local if not (page.parent / t).exists()] == []
    named = re.findall(r"`(docs/[\w/]+(?:\.\w+|/)|reports/[\w/.]+\.csv|tests/[\w/.]+\.py)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_of_a_page_names_modules_notebooks_and_parameters_that_exist(page):
    """What a reader copies is parsed as a shell would, and checked as the command would."""
    for line in commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line)
        module = words[words.index("-m") + 1]
        assert find_spec(module) or module in ("venv", "sphinx"), line
        notebook = next((w for w in words if w.endswith(".ipynb")), "")
        if module == "soilkit.show.reports" and notebook:
            pairs = words[words.index("-p") + 1 :] if "-p" in words else []
            reports.check_parameters(ROOT / notebook, dict(map(parameter, pairs)))


@pytest.mark.parametrize("path", EPISODES, ids=lambda path: path.stem)
def test_an_episode_has_what_a_lesson_needs(path):
    """Questions, objectives, challenges with folded solutions, key points, minutes, a notebook."""
    text = path.read_text(encoding="utf-8")
    for part in ("**Questions**", "**Objectives**", "**Key points**", "## The story"):
        assert part in text
    assert text.count("## Challenge") == text.count("<details><summary>Solution") >= 2
    minutes = re.search(r"Teaching (\d+) min · challenges (\d+) min · notebook `(\w+)`", text)
    assert minutes and (ROOT / "notebooks" / f"{minutes[3]}.ipynb").exists()
    row = f"({path.name}) | {minutes[3][:2]} | {minutes[1]} min | {minutes[2]} min |"
    assert row in (path.parent / "index.md").read_text(encoding="utf-8")


def test_every_number_to_guess_has_an_answer():
    """A challenge that asks for a number names it; the answers' notebook computes that name."""
    source = "\n".join(cell.source for cell in nbformat.read(ANSWERS, 4).cells)
    asked = {
        n for path in EPISODES for n in re.findall(r"\(`(\w+)`\)|is `(\w+)`", path.read_text())
    }
    asked = {a or b for a, b in asked}
    answered = set(re.findall(r'"(\w+)": ', source)) | set(
        re.findall(r'answers\["(\w+)"\]', source)
    )
    assert len(asked) >= 8 and asked <= answered


def test_a_notebook_of_the_lesson_is_stored_clean():
    code = [c for c in json.loads(ANSWERS.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in code)
