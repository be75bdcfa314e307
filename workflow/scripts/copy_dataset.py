"""Make a writable copy of a fetched dataset, an archive or a folder."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.data.trees import MAX_UNPACKED_GB, copy_tree
from vitcnn.files import read_json
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument("--fetched", required=True, type=Path, help="what fetch_dataset fetched")
parser.add_argument("--origin", required=True, type=Path, help="where fetch_dataset left it")
parser.add_argument("--copied", required=True, type=Path, help="JSON file to write in the folder to make")

parser.add_argument(
    "--max-unpacked-gb",
    type=float,
    default=MAX_UNPACKED_GB,
    metavar="N",
    help="refuse larger archives (default: %(default)s)",
)


def main(args):
    origin = Path(read_json(args.origin)["path"])
    copy_tree(origin, args.settings["layout"], args.copied.parent, args.max_unpacked_gb)
    return JobFiles(read=[args.fetched], wrote=[args.copied])


if __name__ == "__main__":
    run(main, parser)
