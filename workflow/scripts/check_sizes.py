"""Check, before the first training of a dataset, that no run asks for more images than it has."""

import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.entry import argument_parser, run
from vitcnn.files import read_json

parser = argument_parser(__doc__)
parser.add_argument("--manifest", required=True, type=Path, help="manifest of the packed dataset")
parser.add_argument("--asked", required=True, type=json.loads, help="the largest train_sizes, as JSON")


def main(args):
    plan.check_sizes(read_json(args.manifest), args.asked)


if __name__ == "__main__":
    run(main, parser)
