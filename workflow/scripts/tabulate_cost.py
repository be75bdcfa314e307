"""Write what models cost as a table, in CSV, Markdown and HTML."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results import cost, tables

parser = argument_parser(__doc__)
parser.add_argument("--costs", required=True, nargs="*", type=Path, help="files of measure_cost")
parser.add_argument("--csv", required=True, type=Path, help="file to write")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    table = cost.read_costs(args.costs, args.settings)
    shown, note, title = cost.for_people(table), cost.note(table), args.settings["title"]
    write_text(args.md, tables.to_markdown(shown, title, note))
    write_text(args.html, tables.to_html(shown, title, note))
    write_text(args.csv, table.to_csv(index=False))  # where it is, all are
    return JobFiles(read=args.costs, wrote=[args.csv, args.md, args.html])


if __name__ == "__main__":
    run(main, parser)
