"""Write the table of `docs/speed.md` from the JSON files that the benchmarks beside this script wrote.

python tests/speed/write_table.py
"""

import json
import re
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/speed.md"
sys.path.insert(0, str(HERE.parents[1] / "workflow"))

from vitcnn.files import write_text


def spread(ratio):
    """Return a ratio with the smallest and the largest of its repetitions."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"


def training(figures):
    """Yield a row for each model and precision."""
    for row in figures["results"]:
        plain, ours = (
            f"{statistics.median(row['images_per_second'][side]):,.0f} images/s" for side in ("plain", "ours")
        )
        floor = f"{100 * row['fraction_of_floor']:.0f} % of the matrix floor"
        yield f"training `{row['model']}`, {row['precision']}", plain, ours, spread(row["ratio"]), floor


def steps(figures):
    """Yield a row for each step that was taken back."""
    for row in figures["results"]:
        yield f"`{row['model']}` without {row['without']}", "", "", spread(row["share"]), "of the full speed"


def inference(figures):
    """Yield a row for each model: the first notebook's pass, and the share of the pipeline in it."""
    for row in figures["results"]:
        pipeline, _, whole = (f"{statistics.median(taken):.2f}" for taken in row["ms_per_image"].values())
        what, note = f"the notebook's inference, `{row['model']}`", f"is the data pipeline: {pipeline} ms"
        yield what, f"{whole} ms/image", "", spread(row["pipeline_share"]), note


def preparation(figures):
    """Yield the row of Tiny ImageNet's preparation."""
    plain, ours = (
        f"{statistics.median(sum(turn[side].values()) for turn in figures['seconds']):.0f} s"
        for side in ("plain", "ours")
    )
    note = f"{figures['files']:,} files; time over time"
    yield "preparing Tiny ImageNet", plain, ours, spread(figures["ours_over_plain"]), note


def evaluation():
    """Return the row of what the evaluation after an epoch costs in the reference runs, by their medians.

    Those that were interrupted shared their machine with much else.
    """
    paths = (HERE.parent / "reference").rglob("runtime.json")
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    runs = [run for run in runs if run["attempts"] == 1]
    shares = [
        100 * statistics.median(run["evaluation_seconds"]) / statistics.median(run["epoch_seconds"])
        for run in runs
    ]
    share = f"{min(shares):.1f}–{max(shares):.1f} %"
    return "evaluation after an epoch, beside its training", "", share, "", f"{len(runs)} reference runs"


def growth(figures):
    """Yield the rows of start-up, of time by images and of memory by epochs."""
    torch, first = (
        f"{statistics.median(pair[what] for pair in figures['start_seconds']):.1f} s"
        for what in ("import torch", "first step")
    )
    yield "start to first step, beside `import torch`", torch, first, spread(figures["start_ratio"]), ""
    rows = [row for row in figures["growth"] if row["epochs"] == 1]
    each = [f"{row['milliseconds_per_image']:.2f}" for row in rows]
    images = ", ".join(f"{row['images']:,}" for row in rows)
    yield "ms an image, `cnn` on one thread", "", ", ".join(each), "", f"{images} images"
    rows = [row for row in figures["growth"] if row["images"] == figures["growth"][0]["images"]]
    peaks = ", ".join(f"{row['peak_bytes'] / 2**20:.0f}" for row in rows)
    yield "peak MiB", "", peaks, "", ", ".join(str(row["epochs"]) for row in rows) + " epochs"


def equivalence(figures):
    """Yield a row for each two arms of each model."""
    for row in figures["results"]:
        for name, found in row["compared"].items():
            arms = name.split(" minus ")[::-1]
            means = (f"{statistics.mean(row['arms'][arm]['accuracy']):.2f} %" for arm in arms)
            low, high = found["accuracy"]["interval"]
            shown = "" if found["equivalent"] else "not "
            verdict = f"equivalence within ±1 point {shown}shown, p = {found['p']:.1g}"
            difference = f"{found['accuracy']['difference']:+.2f} ({low:+.2f} to {high:+.2f}) points"
            epochs = "1 epoch" if row["epochs"] == 1 else f"{row['epochs']} epochs"
            what = f"{row['dataset']}, {row['train_size']} images, {epochs}"
            what = f"accuracy of `{row['model']}` on {what}: {' and '.join(arms)}"
            yield what, *means, difference, verdict


def dry_run(figures):
    """Yield two rows for each number of runs: dry runs beside a Snakefile of nothing but the same files, and the audit."""
    for runs in sorted({row["runs"] for row in figures["results"]}):
        rows = [row for row in figures["results"] if row["runs"] == runs]
        seconds = {row["state"]: statistics.median(row["seconds"]) for row in rows}
        bare, audit = seconds.pop("bare"), seconds.pop("audit")
        slowest, peak = max(seconds.values()), max(row["peak_mib"] for row in rows)
        what = f"dry run of a study of {runs:,} runs"
        yield (
            what,
            f"{bare:.1f} s",
            f"{slowest:.1f} s",
            f"{slowest / bare:.2f}",
            f"slowest of its states; plain: rules alone; at most {peak / 1024:.1f} GiB",
        )
        yield f"audit of a finished study of {runs:,} runs", "", f"{audit:.1f} s", "", ""


def status(figures):
    """Yield a row for each number of runs."""
    for row in figures["results"]:
        seconds = f"{statistics.median(row['seconds']):.1f} s"
        yield f"status of a study of {row['runs']:,} runs", "", seconds, "", "100 of them in training"


def line(cells):
    """Return a row as Markdown."""
    return f"| {' | '.join(cells)} |\n"


def table():
    """Return the table, with the hardware's name, as Markdown."""
    text = "| | plain | here | ratio (smallest–largest) | |\n|---|---|---|---|---|\n"
    devices = []
    for rows in (training, steps, inference, equivalence, preparation, growth, dry_run, status):
        path = HERE / f"{rows.__name__}.json"
        if path.exists():
            figures = json.loads(path.read_text(encoding="utf-8"))
            hardware = figures["hardware"]
            devices.append(f"{hardware['device']}, {hardware['cores']} cores")
            text += "".join(line(row) for row in rows(figures))
    return f"Measured on {' and '.join(dict.fromkeys(devices))}.\n\n{text}{line(evaluation())}"


if __name__ == "__main__":
    before, old, after = re.split(
        r"(Measured on .*?\|\n)(?!\|)", PAGE.read_text(encoding="utf-8"), flags=re.S
    )
    write_text(PAGE, before + table() + after)
