"""Pack a validated dataset: memory-mapped arrays, the hold-out, and a manifest of digests."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.data.pack import pack_dataset
from vitcnn.entry import argument_parser, run

parser = argument_parser(__doc__)
parser.add_argument("--report", required=True, type=Path, help="report of validate_images")
parser.add_argument("--decoded", required=True, type=Path, help="arrays of validate_images")
parser.add_argument("--packed", required=True, type=Path, help="folder to write")
parser.add_argument("--image-size", required=True, type=int, help="pixels a side that images must have")
parser.add_argument("--num-classes", required=True, type=int, help="classes that there must be")
parser.add_argument("--on-damaged", required=True, choices=["error", "skip"], help="what to do with them")


def main(args):
    expected = {"image_size": args.image_size, "num_classes": args.num_classes}
    pack_dataset(args.report, args.decoded, args.packed, args.on_damaged, expected)


if __name__ == "__main__":
    run(main, parser)
