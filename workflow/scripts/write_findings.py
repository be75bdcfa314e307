"""Answer the notebooks' questions from the collected runs."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import Made
from vitcnn.results.collect import read_tables
from vitcnn.results.findings import write_findings

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--out", required=True, type=Path, help="Markdown file to write")


def main(args):
    write_text(args.out, write_findings(read_tables(args.runs)))
    return Made(read=args.runs, wrote=[args.out])


if __name__ == "__main__":
    run(main, parser)
