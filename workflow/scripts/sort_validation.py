"""Sort Tiny ImageNet's validation images into one folder per class."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.data.tiny_imagenet import sort_validation
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument("--copied", required=True, type=Path, help="copied.json of the dataset, in its folder")
parser.add_argument("--record", required=True, type=Path, help="record of copy_dataset")
parser.add_argument("--sorted", required=True, type=Path, help="JSON file to write, in the same folder")


def main(args):
    sort_validation(args.sorted.parent)
    return JobFiles(read=[args.copied, args.record], wrote=[args.sorted])


if __name__ == "__main__":
    run(main, parser)
