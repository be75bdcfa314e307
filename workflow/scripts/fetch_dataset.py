"""Fetch a dataset from the first of its sources that delivers, and write what came from where."""

import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.data.fetch import fetch
from vitcnn.entry import argument_parser, run
from vitcnn.files import write_json

parser = argument_parser(__doc__)
parser.add_argument("--dataset", required=True, help="its name in config.yaml")
parser.add_argument("--sources", required=True, type=json.loads, help="its places, as a JSON list")
parser.add_argument("--downloads", required=True, type=Path, help="folder for what is downloaded")
parser.add_argument("--manifest", required=True, type=Path, help="JSON file to write")


def main(args):
    write_json(args.manifest, fetch(args.dataset, args.sources, args.downloads))


if __name__ == "__main__":
    run(main, parser)
