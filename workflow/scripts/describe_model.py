"""Write a model's architecture: each layer with the shape of its output and its parameters."""

import sys
from html import escape
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.models.describe import describe_model
from vitcnn.page import page
from vitcnn.provenance.record import JobFiles

parser = argument_parser(__doc__)
parser.add_argument("--txt", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    title = args.settings["title"]
    text = describe_model(args.settings["spec"], args.settings.get("equal", ()))
    write_text(args.html, page(title, f"<pre>{escape(text)}</pre>"))
    write_text(args.txt, f"{title}\n{text}")  # where it is, both are
    return JobFiles(read=[], wrote=[args.txt, args.html])


if __name__ == "__main__":
    run(main, parser)
