"""Compare the models of an experiment by their runs' answers to the test images."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results.answers import NOTES, analyse, for_people, note, read_answers
from vitcnn.results.collect import read_tables
from vitcnn.results.tables import to_html, to_markdown

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, type=Path, help="table of collect_runs, a row per run")
parser.add_argument("--epochs", required=True, type=Path, help="table of collect_runs, a row per epoch")
parser.add_argument("--predictions", required=True, nargs="+", type=Path, help="predictions.npz of each run")
for name in NOTES:
    parser.add_argument(f"--{name}", required=True, nargs=3, type=Path, help="CSV, Markdown, HTML to write")


def main(args):
    runs, epochs = (read_tables([path]) for path in (args.runs, args.epochs))
    answers = {path.parent: read_answers(path) for path in args.predictions}
    analysed = analyse(runs, epochs, answers, args.settings["pairs"])
    wrote = []
    for name, table in analysed._asdict().items():
        csv, md, html = getattr(args, name)
        title = f"{args.settings['title']}: {name}"
        shown = for_people(name, table, args.settings["accuracy"])
        text = note(name, runs, args.settings["accuracy"])
        write_text(html, to_html(shown, title, text))
        write_text(md, to_markdown(shown, title, text))
        write_text(csv, table.to_csv(index=False))
        wrote += [csv, md, html]
    return JobFiles(read=[args.runs, args.epochs, *args.predictions], wrote=wrote)


if __name__ == "__main__":
    run(main, parser)
