"""Train one run and write its metrics, runtime, weights and predictions.

With Snakemake the run comes as a resolved spec; by hand it is easier to name it:

  python workflow/scripts/train.py --run cifar10/vit/adam10/nall/seed0

A run is DATASET/MODEL/RECIPE/nTRAIN_SIZE/seedSEED, with names from config.yaml and a number of
training images or "all". The dataset must have been packed: snakemake resources/DATASET/packed/manifest.json
"""

import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.config import load_config
from vitcnn.entry import argument_parser, run
from vitcnn.errors import StudyError

parser = argument_parser(__doc__)
what = parser.add_mutually_exclusive_group(required=True)
what.add_argument("--run", metavar="NAME", help="the run's name; its settings are those of --config")
what.add_argument("--spec", metavar="JSON", help="the run's resolved spec, as JSON text")
parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="default: config.yaml")
parser.add_argument("--data", type=Path, help="packed dataset (default: resources/DATASET/packed)")
parser.add_argument("--out", type=Path, help="folder for the results (default: results/runs/NAME)")
parser.add_argument(
    "--device", choices=["auto", "cpu", "cuda", "mps"], help="default: as configured, or auto"
)
parser.add_argument(
    "--threads",
    type=int,
    metavar="N",
    choices=range(1, 1025),
    help="CPU threads (default: as configured, or 1)",
)


def main(args):
    config = load_config(args.config) if args.run else {"device": "auto", "threads": 1}
    try:
        spec = plan.run_spec(config, plan.Run.parse(args.run)) if args.run else json.loads(args.spec)
        asked = plan.spec_run(spec)
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"--spec: is no run's spec: {error!r}") from error

    from vitcnn.training.record import train_run  # torch: after the cheap mistakes

    train_run(
        spec,
        args.data or Path("resources", asked.dataset, "packed"),
        args.out or asked.folder,
        args.device or config["device"],
        args.threads or config["threads"],
    )


if __name__ == "__main__":
    run(main, parser)
