"""Draw one of the study's figures from the collected runs."""

import json
import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd

from vitcnn.entry import argument_parser, run
from vitcnn.results.figures import FIGURES
from vitcnn.results.figures.style import save_figure

parser = argument_parser(__doc__)
parser.add_argument("--figure", required=True, choices=list(FIGURES), help="which one")
parser.add_argument("--runs", required=True, type=Path, help="table of collect_runs")
parser.add_argument("--epochs", required=True, type=Path, help="table of collect_runs")
parser.add_argument("--settings", required=True, type=json.loads, help="title, dpi and band, as JSON")
parser.add_argument("out", nargs="+", type=Path, help="files to write: .svg, .png, .pdf")


def main(args):
    draw = import_module(f"vitcnn.results.figures.{args.figure}").draw
    figure = draw(pd.read_csv(args.runs), pd.read_csv(args.epochs), args.settings)
    save_figure(figure, args.out, args.settings["dpi"])


if __name__ == "__main__":
    run(main, parser)
