"""Draw accuracy against what models cost, from the table of costs and the collected runs."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.provenance.record import JobFiles
from vitcnn.results.collect import read_tables
from vitcnn.results.figures.cost import draw
from vitcnn.results.figures.style import save_figure

parser = argument_parser(__doc__)
parser.add_argument("--costs", required=True, type=Path, help="table of tabulate_cost")
parser.add_argument("--runs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write: .svg, .png, .pdf")


def main(args):
    figure = draw(read_tables([args.costs]), read_tables(args.runs), args.settings)
    save_figure(figure, args.out, args.settings["dpi"])
    return JobFiles(read=[args.costs, *args.runs], wrote=args.out)


if __name__ == "__main__":
    run(main, parser)
