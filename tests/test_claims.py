"""No claim without a test that can fail: every example, at its full length, prints the figures that its page quotes.

examples/README.md quotes the last line of each script, below its command, with tolerances in brackets: 80%[±5] says that
other seeds and machines end between 75% and 85%. A number without brackets must be met exactly, and so must the words.

    pytest -m claims            all of them, half an hour on one core; -k NAME picks one
"""

import os
import re

import pytest
from test_examples import EXAMPLES, MPIEXEC, NEEDS_MPI, WITH_OPTIONS, run

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
QUOTED = re.compile(rf"({NUMBER.pattern})(%?)(?:\[±({NUMBER.pattern})\])?")


def quotes():
    """{script: the quoted last line}, from the page."""
    found = {}
    for section in re.split(r"^(?=\*\*\d+\. `)", (EXAMPLES / "README.md").read_text("utf-8"), flags=re.MULTILINE)[1:]:
        script = re.match(r".*?python examples/(\S+\.py)`", section)[1]
        if quote := re.search(r"^> (.+)$", section, re.MULTILINE):
            found[script] = quote[1]
    return found


def disagreement(quote, line):
    """What keeps a line from being the quoted one, or None."""
    expected, found = QUOTED.findall(quote), NUMBER.findall(line)
    words = QUOTED.sub(r"#\2", quote), NUMBER.sub("#", line)
    if words[0] != words[1]:
        return f"other words: expected {words[0]!r}, got {words[1]!r}"
    for (number, _, tolerance), got in zip(expected, found, strict=True):
        if abs(float(got) - float(number)) > float(tolerance or 0) * (1 + 1e-9):
            return f"{got} where {number} ± {tolerance or 0} is claimed, in {line!r}"
    return None


def test_disagreement_sees_words_and_numbers():
    quote = "8 of 8 modes, 80.4%[±5] within 3σ, off by 5e-08[±1e-6] (perfect: 0)"
    assert disagreement(quote, "8 of 8 modes, 76.0% within 3σ, off by 9e-07 (perfect: 0)") is None
    assert "75.0" in disagreement(quote, "8 of 8 modes, 75.0% within 3σ, off by 5e-08 (perfect: 0)")
    assert "7 where 8" in disagreement(quote, "8 of 7 modes, 80.4% within 3σ, off by 5e-08 (perfect: 0)")
    assert "words" in disagreement(quote, "8 of 8 modes, 80.4% within 4, off by 5e-08 (perfect: 0)")
    assert "words" in disagreement(quote, "8 of 8 modes, 80.4 within 3σ, off by 5e-08 (perfect: 0)")


def test_the_page_quotes_every_example_that_measures_something():
    assert quotes().keys() == set(WITH_OPTIONS)


@pytest.mark.claims
@pytest.mark.parametrize("script", sorted(quotes()))
def test_claim(script, tmp_path):
    launcher = ()
    if script == "data_parallel.py":
        if MPIEXEC is None:
            pytest.skip(NEEDS_MPI)
        launcher = MPIEXEC, "-n", "2"
    printed = run(script, tmp_path, "--device", "cpu", "--seed", os.environ.get("TINYGAN_SEED", "0"),
                  launcher=launcher, timeout=600, warnings="default")
    line = printed.splitlines()[-1].partition(": ")[2]
    assert not disagreement(quotes()[script], line)
