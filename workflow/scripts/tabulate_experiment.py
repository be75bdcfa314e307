"""Write an experiment's table as CSV, Markdown, HTML and LaTeX."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results import tables
from vitcnn.results.collect import marked, read_tables

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, type=Path, help="table of collect_runs")
parser.add_argument("--csv", required=True, type=Path, help="file to write")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")
parser.add_argument("--tex", required=True, type=Path, help="file to write")


def main(args):
    runs = read_tables([args.runs])
    accuracy = args.settings["accuracy"]
    table, note = tables.tabulate(runs, accuracy), tables.note(runs, accuracy)
    shown = tables.for_people(table)
    title = marked(args.settings["title"], runs)
    write_text(args.md, tables.to_markdown(shown, title, note))
    write_text(args.html, tables.to_html(shown, title, note))
    write_text(args.tex, tables.to_latex(shown, title, note))
    write_text(args.csv, table.to_csv(index=False))  # where it is, all are
    return JobFiles(read=[args.runs], wrote=[args.csv, args.md, args.html, args.tex])


if __name__ == "__main__":
    run(main, parser)
