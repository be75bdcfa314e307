"""Tabulate the flaws of the notebooks, each with its size as the runs measure it."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results.collect import marked
from vitcnn.results.flaws import NOTE, for_people, ledger, read_results
from vitcnn.results.probed import read_probed
from vitcnn.results.tables import to_html, to_markdown

parser = argument_parser(__doc__)
parser.add_argument(
    "--inputs", nargs="*", default=[], type=Path, help="tables of the experiments of the study"
)
parser.add_argument("--representations", nargs="*", default=[], type=Path, help="files of probe_run")
parser.add_argument(
    "--predictions", nargs="*", default=[], type=Path, help="files of train, of the same runs"
)
parser.add_argument("--costs", nargs="*", default=[], type=Path, help="table of tabulate_cost, if any")
parser.add_argument("--csv", required=True, type=Path, help="file to write")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    asked = args.settings
    results = {name: read_results(name, pairs) for name, pairs in asked["pairs"].items()}
    costs = pd.read_csv(args.costs[0]) if args.costs else None
    models = read_probed(asked["probed"], args.representations, args.predictions)
    table = ledger(asked["flaws"], results, asked["absent"], models, costs)
    runs = pd.concat(
        [one.runs for one in results.values()] or [pd.DataFrame(columns=["generated", "dataset_title"])]
    )
    title, shown = marked("The notebooks' flaws, each with its size", runs), for_people(table)
    write_text(args.html, to_html(shown, title, NOTE))
    write_text(args.md, to_markdown(shown, title, NOTE))
    write_text(args.csv, table.to_csv(index=False))
    read = [*args.inputs, *args.representations, *args.predictions, *args.costs]
    return JobFiles(read=read, wrote=[args.csv, args.md, args.html])


if __name__ == "__main__":
    run(main, parser)
