"""Sort Tiny ImageNet's validation images into one folder per class."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.data.tiny_imagenet import sort_validation
from vitcnn.entry import argument_parser, run

parser = argument_parser(__doc__)
parser.add_argument("--tree", required=True, type=Path, help="the copied dataset")


def main(args):
    sort_validation(args.tree)


if __name__ == "__main__":
    run(main, parser)
