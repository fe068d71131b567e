"""README and EXTENDING.md are true: their code runs, the map is the one that the files make, every link leads somewhere."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "examples/EXTENDING.md", "examples/README.md", "benchmarks/README.md"]


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page):
    """The Python blocks of a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text(page), re.S))


def test_the_code_on_the_page_about_extending_runs():
    exec(compile(blocks("examples/EXTENDING.md"), "EXTENDING.md", "exec"), {"__name__": "page"})    # noqa: S102


def test_the_gan_on_an_array_of_ones_own_runs(capsys):
    """README's block, in three steps instead of two thousand."""
    code, = [b for b in re.findall(r"```python\n(.*?)```", text("README.md"), re.S) if "train.fit" in b]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code.replace("steps=2000", "steps=3"), "README.md", "exec"), {"__name__": "page"})    # noqa: S102
    assert "sliced Wasserstein distance" in capsys.readouterr().out


def test_the_map_is_made_from_the_files():
    """python benchmarks/map.py writes it."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import map as made
    finally:
        sys.path.pop(0)
    readme = text("README.md")
    assert readme.partition(made.START)[2].partition(made.END)[0] == made.rendered(), "run: python benchmarks/map.py"
    listed = [n for names in made.files().values() for n in names]
    present = {p.stem for p in (ROOT / "tinygan").glob("*.py")} - {"__init__", "__main__"}
    assert sorted(listed) == sorted(present)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", text(page)):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_options_that_a_page_names_exist(page):
    for name in re.findall(r"(?:python|pytest) ((?:examples|benchmarks|tests)/[\w/]+\.py)", text(page)):
        assert (ROOT / name).exists(), f"{page} names {name}"
