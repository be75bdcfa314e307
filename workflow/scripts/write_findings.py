"""Write down what the collected runs show, experiment by experiment."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.files import write_text
from vitcnn.provenance.record import JobFiles
from vitcnn.results.answers import read_over_images
from vitcnn.results.collect import read_tables
from vitcnn.results.findings import findings
from vitcnn.results.learned import what_the_models_learned
from vitcnn.results.probed import read_probed
from vitcnn.results.questions import questions
from vitcnn.results.sections import to_html, to_markdown

parser = argument_parser(__doc__)
parser.add_argument("--runs", required=True, nargs="+", type=Path, help="tables of collect_runs")
parser.add_argument("--representations", nargs="*", default=[], type=Path, help="files of probe_run")
parser.add_argument(
    "--predictions", nargs="*", default=[], type=Path, help="files of train, of the same runs"
)
parser.add_argument("--differences", nargs="*", default=[], type=Path, help="tables of analyse_answers")
parser.add_argument("--md", required=True, type=Path, help="file to write")
parser.add_argument("--html", required=True, type=Path, help="file to write")


def main(args):
    runs = read_tables(args.runs)
    models = read_probed(args.settings.get("probed", []), args.representations, args.predictions)
    experiments = args.settings["experiments"]
    # Settings are in alphabetical order, and so are the files.
    over_images = {
        name: read_over_images(path) for name, path in zip(experiments, args.differences, strict=False)
    }
    found = [
        *findings(runs, experiments, args.settings["claims"], over_images),
        *what_the_models_learned(models, bool(runs["generated"].any())),
        *questions(runs, experiments, over_images, models, **args.settings["questions"]),
    ]
    write_text(args.html, to_html(found))
    write_text(args.md, to_markdown(found))  # where it is, both are
    read = [*args.runs, *args.differences, *args.representations, *args.predictions]
    return JobFiles(read=read, wrote=[args.md, args.html])


if __name__ == "__main__":
    run(main, parser)
