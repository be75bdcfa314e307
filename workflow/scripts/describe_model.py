"""Write a model's architecture: each layer with the shape of its output and its parameters."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.models.describe import describe_model
from vitcnn.provenance.record import Made

parser = argument_parser(__doc__)
parser.add_argument("--out", required=True, type=Path, help="text file to write")


def main(args):
    write_text(args.out, describe_model(args.settings["spec"], args.settings["title"]))
    return Made(read=[], wrote=[args.out])


if __name__ == "__main__":
    run(main, parser)
