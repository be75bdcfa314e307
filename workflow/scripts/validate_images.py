"""Decode every image of a dataset fully, and report each damaged one with its reason."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.data.validate import validate_images
from vitcnn.files import write_json
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument(
    "--tree", required=True, type=Path, help="copied.json or sorted.json of the dataset, in its folder"
)
parser.add_argument("--record", required=True, type=Path, help="record of the step that wrote it")
parser.add_argument("--decoded", required=True, type=Path, help="folder for the arrays of pixels")
parser.add_argument("--report", required=True, type=Path, help="JSON file to write")
parser.add_argument("--workers", type=int, default=1, help="processes that decode (default: 1)")


def main(args):
    report = validate_images(
        tree=args.tree.parent, target=args.decoded, workers=args.workers, **args.settings
    )
    write_json(args.report, report)
    return JobFiles(read=[args.tree, args.record], wrote=[args.report])


if __name__ == "__main__":
    run(main, parser, ends_early=False)  # the decoded arrays are wanted, and they are temporary
