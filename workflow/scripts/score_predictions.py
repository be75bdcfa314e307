"""Score what readers predicted against the collected runs."""

import sys
from html import escape
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import file_digest, write_text
from vitcnn.predictions import read_predictions, read_seals
from vitcnn.provenance.record import JobFiles
from vitcnn.results.answers import read_over_images
from vitcnn.results.collect import read_tables
from vitcnn.results.predictions import report, score_predictions
from vitcnn.results.sections import as_written, to_html, to_markdown

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--differences", required=True, nargs="+", type=Path, help="tables of analyse_answers")
parser.add_argument("--predictions", required=True, nargs="+", type=Path, help="a file of each reader")
parser.add_argument("--seals", required=True, type=Path, help="file of seal")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    asked = args.settings
    runs = read_tables(args.runs)
    # Settings are in alphabetical order, and so are the files.
    over_images = {
        name: read_over_images(path)
        for name, path in zip(asked["experiments"], args.differences, strict=True)
    }
    scored = score_predictions(
        runs,
        read_predictions(args.predictions, asked),
        read_seals(args.seals),
        {path.name: file_digest(path) for path in args.predictions},
        asked,
        over_images,
    )
    sections = report(scored, runs, asked["bears_on"])
    write_text(args.html, to_html(sections, escape))
    write_text(args.md, to_markdown(sections, as_written))  # where it is, both are
    read = [*args.runs, *args.differences, *args.predictions, args.seals]
    return JobFiles(read=read, wrote=[args.md, args.html])


if __name__ == "__main__":
    run(main, parser)
