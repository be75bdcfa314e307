"""Write the table of accuracies on corrupted images as CSV, Markdown and HTML."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import read_json, write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results.corruptions import differences, read_corrupted, report, tabulate
from vitcnn.results.sections import to_html, to_markdown

parser = argument_parser(__doc__)
parser.add_argument("--corrupted", required=True, nargs="+", type=Path, help="corruptions.json of each run")
parser.add_argument("--csv", required=True, type=Path, help="file to write: a row per model")
parser.add_argument("--differences", required=True, type=Path, help="file to write: a row per pair of models")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    settings = args.settings
    runs = read_corrupted(settings["runs"], {path.parent: read_json(path) for path in args.corrupted})
    table, apart = tabulate(runs), differences(runs, settings["pairs"])
    page = report(table, apart, settings["title"], settings["generated"])
    write_text(args.md, to_markdown(page))
    write_text(args.html, to_html(page))
    write_text(args.differences, apart.to_csv(index=False))
    write_text(args.csv, table.to_csv(index=False))
    return JobFiles(read=args.corrupted, wrote=[args.csv, args.differences, args.md, args.html])


if __name__ == "__main__":
    run(main, parser)
