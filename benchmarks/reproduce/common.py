"""What the scripts that reproduce published tables share: runs in processes of their own, means, tables, CSV files."""

import argparse
import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
sys.path.insert(0, str(HERE.parents[1]))        # the tinygan of this checkout, installed or not

from tinygan.files import write_atomically  # noqa: E402

# ------------------------------------------------------------------------------------------ runs


def run(script, jobs, path, again=False):
    """The rows of all jobs: each job, {setting: value}, with what the script found out for it.

    A job is `python script --job '{"method": ..., "seed": ...}' --out FOLDER`, a process of its own that ends by
    printing its results as JSON; the folder, the CSV's, is for pictures. Jobs run one after the other, so that one
    core is enough. The CSV at `path` is written after each of them: a job whose row is there already is not run
    again, unless `again`.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read(path) if not (again and any(find([row], **job) for job in jobs))]
    for i, job in enumerate(jobs, 1):
        if find(rows, **job) is None:
            show(f"{Path(script).name}: job {i} of {len(jobs)}, {job}")
            command = [sys.executable, script, "--job", json.dumps(job), "--out", Path(path).parent]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{script}: the job {job} failed:\n{done.stderr}")
            rows.append({**job, **json.loads(done.stdout.splitlines()[-1])})
            write(path, rows)
    return [find(rows, **job) for job in jobs]


def parser(doc, name, methods, seeds):
    """The options that such a script has: those of its own come on top.

    `name`: of its CSV file and pictures; `seeds`: runs per method. It runs itself with --job, see `run`.
    """
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=seeds, help=f"runs per method (default: {seeds})")
    options.add_argument("--methods", nargs="+", default=list(methods), choices=list(methods))
    options.add_argument("--out", type=Path, default=RESULTS, help=f"folder of {name}.csv and its pictures")
    options.add_argument("--again", action="store_true", help=f"also what {name}.csv has already")
    options.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return options


def command(script, doc, methods, seeds, steps, one, compare, pictures):
    """The command line of a script whose runs differ in method, seed and number of steps.

    one(method, seed, steps, picture) makes a row; compare(rows) is the table of the rows of so many steps; the first seed's
    picture is called `pictures`_method.png.
    """
    name = Path(script).stem
    options = parser(doc, name, methods, seeds)
    options.add_argument("--steps", type=int, default=steps, help=f"default: {steps}")
    args = options.parse_args()
    if args.job:
        picture = args.out / f"{pictures}_{args.job['method']}.png" if args.job["seed"] == 0 else None
        return print(json.dumps(one(**args.job, picture=picture)))
    jobs = [dict(method=m, seed=s, steps=args.steps) for m in args.methods for s in range(args.seeds)]
    run(script, jobs, args.out / f"{name}.csv", args.again)
    rows = read(args.out / f"{name}.csv")                   # of earlier commands too
    print(compare([row for row in rows if row["steps"] == args.steps]))


def find(rows, **settings):
    """The first row with these settings, or None."""
    return next((row for row in rows if all(row.get(k) == v for k, v in settings.items())), None)


def show(line):
    """What happens meanwhile, on stderr: stdout is the table's."""
    print(line, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------- files


def read(path):
    """The rows of a CSV file, numbers as numbers; none if there is no file."""
    if not Path(path).exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: _value(v) for k, v in row.items()} for row in csv.DictReader(file)]


def _value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def write(path, rows):
    """The rows as a CSV file, with a column for every key and ten digits of a float."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    lines = [keys, *([_text(row.get(k, "")) for k in keys] for row in rows)]

    def save(file):
        file.write("".join(",".join(line) + "\n" for line in lines).encode())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save)


def _text(value):
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    if "," in text or '"' in text:
        raise ValueError(f"a cell of a CSV file here has no comma and no quote, got {text!r}")
    return text


# ----------------------------------------------------------------------------------------- figures


def mean_sd(values):
    """Mean and standard deviation (n − 1) of some numbers; the deviation of one number is NaN."""
    values = np.array(list(values), float)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


def pm(values, digits):
    """Mean ± standard deviation as text; of one number the mean alone."""
    mean, sd = mean_sd(values)
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")


def difference(own, published):
    """(own mean − published mean) / its standard error, each given as (mean, deviation, runs).

    A deviation that was not published (None) is taken to be ours. Within ±2 is what chance alone does.
    """
    (a, s, n), (b, t, m) = own, published
    t = s if t is None else t
    error = math.sqrt(s ** 2 / n + t ** 2 / m)
    return (a - b) / error if error else math.nan


def correlation(a, b):
    """Pearson's r of two lists of numbers; NaN where one of them is constant."""
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def table(head, rows):
    """Markdown."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows))
