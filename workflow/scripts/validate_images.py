"""Decode every image of a dataset fully, and report each damaged one with its reason."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.data.pack import validate_images
from vitcnn.entry import argument_parser, run
from vitcnn.files import write_json

parser = argument_parser(__doc__)
parser.add_argument("--dataset", required=True, help="its name in config.yaml")
parser.add_argument("--layout", required=True, help="cifar10, cifar100 or tiny_imagenet")
parser.add_argument("--tree", required=True, type=Path, help="the copied (and sorted) dataset")
parser.add_argument("--decoded", required=True, type=Path, help="folder for the arrays of pixels")
parser.add_argument("--report", required=True, type=Path, help="JSON file to write")
parser.add_argument("--workers", type=int, default=1, help="processes that decode (default: 1)")


def main(args):
    report = validate_images(args.dataset, args.layout, args.tree, args.decoded, args.workers)
    write_json(args.report, report)


if __name__ == "__main__":
    run(main, parser)
