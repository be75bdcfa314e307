"""Copy a fetched dataset, archive or folder, to a place of its own that may be written to."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.data.trees import copy_tree
from vitcnn.entry import argument_parser, run
from vitcnn.files import read_json

parser = argument_parser(__doc__)
parser.add_argument("--fetched", required=True, type=Path, help="manifest of fetch_dataset")
parser.add_argument("--layout", required=True, help="cifar10, cifar100 or tiny_imagenet")
parser.add_argument("--tree", required=True, type=Path, help="folder to make")


def main(args):
    copy_tree(Path(read_json(args.fetched)["path"]), args.layout, args.tree)


if __name__ == "__main__":
    run(main, parser)
