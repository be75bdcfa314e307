"""Draw a figure of some experiments from their collected runs."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.provenance.record import JobFiles
from vitcnn.results.collect import read_tables
from vitcnn.results.figures.style import save_figure

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--epochs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write: .svg, .png, .pdf")


def main(args):
    draw = import_module(f"vitcnn.results.figures.{args.settings['figure']}").draw
    figure = draw(read_tables(args.runs), read_tables(args.epochs), args.settings)
    save_figure(figure, args.out, args.settings["dpi"])
    return JobFiles(read=[*args.runs, *args.epochs], wrote=args.out)


if __name__ == "__main__":
    run(main, parser)
