"""Collect the runs of a study into two tables, after checking each of them."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results.collect import collect_runs

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, type=Path, help="CSV file to write, a row per run")
parser.add_argument("--epochs", required=True, type=Path, help="CSV file to write, a row per epoch")
parser.add_argument("--partial", action="store_true", help="mark runs that cannot be used as gaps")


def main(args):
    collected = collect_runs(args.settings, Path(), args.partial)
    write_text(args.epochs, collected.epochs.to_csv(index=False))
    write_text(args.runs, collected.runs.to_csv(index=False))
    return JobFiles(read=[] if args.partial else collected.read, wrote=[args.runs, args.epochs])


if __name__ == "__main__":
    run(main, parser)
