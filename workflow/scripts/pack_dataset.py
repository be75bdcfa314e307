"""Pack a validated dataset: memory-mapped arrays, the hold-out, and a manifest of digests."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.data.pack import pack_dataset
from vitcnn.files import read_json
from vitcnn.plan import check_sizes
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument("--report", required=True, type=Path, help="report of validate_images")
parser.add_argument("--record", required=True, type=Path, help="record of validate_images")
parser.add_argument("--decoded", required=True, type=Path, help="arrays of validate_images")
parser.add_argument("--packed", required=True, type=Path, help="folder to write")
parser.add_argument(
    "--asked-sizes", type=Path, help="JSON file: by dataset, the largest training sets that runs ask for"
)


def main(args):
    digests = pack_dataset(args.report, args.decoded, args.packed, **args.settings)
    manifest = args.packed / "manifest.json"
    if args.asked_sizes and args.asked_sizes.exists():
        found = read_json(manifest)
        check_sizes(found, read_json(args.asked_sizes).get(found["dataset"], (0, 0)), manifest)
    wrote = [manifest, *digests]
    return JobFiles(read=[args.report, args.record], wrote=wrote, digests=digests)


if __name__ == "__main__":
    run(main, parser)
