"""Draw one figure of what the models learned, from the probes of all runs."""

import sys
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.provenance.record import JobFiles
from vitcnn.results.figures.style import save_figure
from vitcnn.results.probed import read_probed

parser = argument_parser(__doc__)
parser.add_argument("--representations", required=True, nargs="+", type=Path, help="files of probe_run")
parser.add_argument(
    "--predictions", required=True, nargs="+", type=Path, help="files of train, of the same runs"
)
parser.add_argument("--out", required=True, nargs="+", type=Path, help="files to write: .svg, .png, .pdf")


def main(args):
    draw = import_module(f"vitcnn.results.figures.{args.settings['figure']}").draw
    models = read_probed(args.settings["runs"], args.representations, args.predictions)
    save_figure(draw(models, args.settings), args.out, args.settings["dpi"])
    return JobFiles(read=[*args.representations, *args.predictions], wrote=args.out)


if __name__ == "__main__":
    run(main, parser)
