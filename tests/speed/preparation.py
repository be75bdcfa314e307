"""Preparation of Tiny ImageNet side by side: the notebook's way, and this project's, which does more.

  python tests/speed/preparation.py FOLDER [--repetitions 3] [--out FILE]

FOLDER is an unpacked `tiny-imagenet-200`. The notebook copies it with copytree, moves each validation image
into the folder of its class, and opens and verifies each image's header. The project copies, sorts, decodes
every image fully, packs the arrays and digests them, by its own entry points, with all cores. The two take
turns, each after what the other left to be written is on disk. Memory is that of the largest process.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import write_figures

ROOT = Path(__file__).parents[2]


def plain(origin, work):
    """Do what the notebook does; return the seconds of each step."""
    from PIL import Image

    tree = work / "tree"

    def copy():
        shutil.copytree(origin, tree)

    def sort():
        classes = {}
        for line in (tree / "val" / "val_annotations.txt").read_text().splitlines():
            name, wnid = line.split("\t")[:2]
            classes[name] = wnid
        for name, wnid in classes.items():
            (tree / "val" / wnid).mkdir(exist_ok=True)
            shutil.move(tree / "val" / "images" / name, tree / "val" / wnid / name)

    def check():
        for folder in (tree / "train", tree / "val"):
            for path in folder.rglob("*.JPEG"):
                Image.open(path).verify()

    return timed(copy=copy, sort=sort, check=check)


def ours(origin, work):
    """Run the project's entry points on the same folder; return the seconds of each."""
    fetched, tree, packed = work / "fetched.json", work / "tree", work / "packed"
    fetched.write_text(json.dumps({"path": str(origin)}))
    dataset = {"dataset": "imagenet200", "layout": "tiny_imagenet"}
    record = work / "record.json"

    def step(script, settings, *arguments):
        command = [sys.executable, ROOT / "workflow/scripts" / f"{script}.py", "--log", work / "log"]
        command += ["--provenance", record, "--settings", json.dumps(settings), *arguments]
        return lambda: subprocess.run(command, check=True)

    return timed(
        copy=step(
            "copy_dataset",
            {"layout": "tiny_imagenet"},
            *("--fetched", fetched, "--origin", fetched, "--copied", tree / "copied.json"),
        ),
        sort=step(
            "sort_validation",
            {},
            *("--copied", tree / "copied.json", "--record", record, "--sorted", tree / "sorted.json"),
        ),
        decode=step(
            "validate_images",
            dataset,
            *("--tree", tree / "sorted.json", "--record", record, "--decoded", work / "decoded"),
            *("--report", work / "report.json", "--workers", str(os.cpu_count())),
        ),
        pack=step(
            "pack_dataset",
            {"on_damaged": "error", "image_size": 64, "num_classes": 200},
            *("--report", work / "report.json", "--record", record, "--decoded", work / "decoded"),
            *("--packed", packed),
        ),
    )


def timed(**steps):
    """Call each step; return its seconds by its name."""
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
    return seconds


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="an unpacked tiny-imagenet-200")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    turns = []
    for repetition in range(args.repetitions):
        turn = {}
        ways = [("plain", plain), ("ours", ours)]
        for name, way in reversed(ways) if repetition % 2 else ways:
            with tempfile.TemporaryDirectory(dir=args.folder.parent) as work:
                os.sync()  # what the other left to be written is no part of this one's time
                turn[name] = way(args.folder.absolute(), Path(work))
            steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in turn[name].items())
            print(f"{name}: {sum(turn[name].values()):.1f} s ({steps})", flush=True)
        turns.append(turn)
    ratios = [sum(turn["ours"].values()) / sum(turn["plain"].values()) for turn in turns]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"ours over plain: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); ", end=""
    )
    print(f"the largest process had {largest / 2**20:.0f} MiB")
    if args.out:
        sys.path.insert(0, str(ROOT / "workflow"))
        figures = {
            "files": sum(len(names) for _, _, names in os.walk(args.folder)),
            "seconds": turns,
            "ours_over_plain": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "peak_bytes_of_the_largest_process": largest,
        }
        write_figures(args.out, figures)


if __name__ == "__main__":
    main()
