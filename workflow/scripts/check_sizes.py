"""Check, before the first training of a dataset, that no run asks for more images than it has."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.entry import argument_parser, run
from vitcnn.files import read_json

parser = argument_parser(__doc__)
parser.add_argument("--manifest", required=True, type=Path, help="manifest of the packed dataset")
parser.add_argument("--largest", required=True, type=int, help="largest train_size of any run")
parser.add_argument("--largest-beside-hold-out", required=True, type=int, help="of runs that hold images out")


def main(args):
    plan.check_sizes(read_json(args.manifest), (args.largest, args.largest_beside_hold_out), args.manifest)


if __name__ == "__main__":
    run(main, parser)
