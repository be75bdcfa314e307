"""Write a model's architecture: each layer with the shape of its output and its parameters."""

import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.entry import argument_parser, run
from vitcnn.files import write_text
from vitcnn.measuring.describe import describe_model

parser = argument_parser(__doc__)
parser.add_argument(
    "--spec", required=True, type=json.loads, help="dataset and model of a run's spec, as JSON"
)
parser.add_argument("--title", required=True, help="the first line")
parser.add_argument("--out", required=True, type=Path, help="text file to write")


def main(args):
    write_text(args.out, describe_model(args.spec, args.title))


if __name__ == "__main__":
    run(main, parser)
