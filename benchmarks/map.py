"""README's map of the files: made from their docstrings and their lengths.

    python benchmarks/map.py            writes the map into README.md, between its two marks

A test fails while README's map is not what this prints.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
START, END = "<!-- map: python benchmarks/map.py -->\n", "<!-- end of map -->\n"
CHAPTERS = {
    "The book: what is computed. An afternoon, in this order.":
        "autograd tape elementwise shapes reductions products optim losses train windows conv "
        "pooling",
    "The second day: layers and networks, and how gradients are checked.":
        "ops module nn norms models gradcheck diagnosis",
    "The engine rooms: the same numbers, faster. Of these the book imports shortcuts.py alone, the register.":
        "shortcuts cpu cpu_threads cpu_conv cpu_winograd gpu",
    "Around it.":
        "backend checks randomness options average recipes aids conditions recurrent views watch",
}


def files():
    """{chapter: [file's name]}; whatever no chapter names stands at the end of the last."""
    chapters = {title: [n for n in names.split() if (ROOT / "tinygan" / f"{n}.py").exists()]
                for title, names in CHAPTERS.items()}
    named = {n for names in chapters.values() for n in names} | {"__init__", "__main__"}
    rest = sorted(p.stem for p in (ROOT / "tinygan").glob("*.py") if p.stem not in named)
    chapters[list(chapters)[-1]] += rest
    return chapters


def first_sentence(text):
    """The first sentence of a module's docstring."""
    paragraph = " ".join(text.partition('"""')[2].partition('"""')[0].partition("\n\n")[0].split())
    return re.match(r"(.*?[.?])(?= [A-Z]|$)", paragraph + "." * (paragraph[-1] not in ".?"))[1]


def rendered():
    """The map as Markdown, with the lines of every file and chapter."""
    lines, total, number = [], 0, 0
    for title, names in files().items():
        texts = {n: (ROOT / "tinygan" / f"{n}.py").read_text(encoding="utf-8") for n in names}
        length = {n: len(t.splitlines()) for n, t in texts.items()}
        total += sum(length.values())
        lines += [f"**{title}** ({sum(length.values()):,} lines)", "", "| | file | what it is | lines |",
                  "|---|---|---|---|"]
        for n in names:
            number += 1
            lines.append(f"| {number} | [{n}.py](tinygan/{n}.py) | {first_sentence(texts[n])} | "
                         f"{length[n]} |")
        lines.append("")
    return "\n".join([*lines, f"The files above have {total:,} lines in all.", ""])


def main():
    """Write the map into README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    readme.write_text(before + START + rendered() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
