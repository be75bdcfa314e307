"""Fetch a dataset from the first of its sources that delivers, and write down what came from where."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.data.fetch import fetch
from vitcnn.data.trees import MAX_UNPACKED_GB
from vitcnn.files import write_json
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument("--downloads", required=True, type=Path, help="folder for what is downloaded")
parser.add_argument("--fetched", required=True, type=Path, help="JSON file to write: what was fetched")
parser.add_argument(
    "--origin", required=True, type=Path, help="JSON file to write: from where, when, to where"
)
parser.add_argument(
    "--max-unpacked-gb",
    type=float,
    default=MAX_UNPACKED_GB,
    metavar="N",
    help="refuse larger archives (default: %(default)s)",
)


def main(args):
    dataset, source = args.settings["dataset"], args.settings["source"]
    fetched = fetch(dataset, source, args.downloads, args.max_unpacked_gb)
    write_json(args.origin, fetched.origin)
    write_json(args.fetched, fetched.what)
    return JobFiles(read=[], wrote=[args.fetched, args.origin])


if __name__ == "__main__":
    run(main, parser, ends_early=False)  # the record does not know whether the source changed
