"""Train one run and write its metrics, runtime, weights and predictions.

With Snakemake the run comes as a resolved spec in the settings; by hand it is easier to name it, or
to name the record of a run that is to be repeated:

  python workflow/scripts/train.py --run cifar10/vit/adam10/nall/seed0
  python workflow/scripts/train.py --repeat results/runs/cifar10/vit/adam10/nall/seed0/provenance.json --out again

A run is DATASET/MODEL/RECIPE/nTRAIN_SIZE/seedSEED, with names from config.yaml and a number of
training images or "all". The dataset must have been packed: snakemake resources/DATASET/packed/manifest.json
"""

import logging
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.config import load_config
from vitcnn.entry import argument_parser, run
from vitcnn.errors import StudyError
from vitcnn.provenance.record import Made, differences, made_of, read_record

parser = argument_parser(__doc__)
what = parser.add_mutually_exclusive_group()
what.add_argument("--run", metavar="NAME", help="the run's name; its settings are those of --config")
what.add_argument("--repeat", type=Path, metavar="FILE", help="the run whose provenance.json this is, again")
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


def prepare(args):
    """Complete what the command line leaves open: the spec, and where things are."""
    config = load_config(args.config) if args.run else {"device": "auto", "threads": 1}
    if args.run:
        args.settings = {"spec": plan.run_spec(config, plan.Run.parse(args.run))}
    elif args.repeat:
        args.settings = recorded_settings(args.repeat)
        if not args.out:
            raise StudyError("--repeat: say with --out where to; the run that is there is left alone")
    try:
        asked = plan.spec_run(args.settings["spec"])
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"no run's spec, in {error}; name one: --run cifar10/vit/adam10/nall/seed0"
        ) from error
    args.data = args.data or Path("resources", asked.dataset, "packed")
    args.out = args.out or asked.folder
    args.provenance = args.provenance or args.out / "provenance.json"
    args.device = args.device or config["device"]
    args.threads = args.threads or config["threads"]


def recorded_settings(path):
    """Return the settings of a run's record, after saying what is not as it was then."""
    record = read_record(path)
    if record is None:
        raise StudyError(f"{path}: there is no such record")
    for difference in differences(record, made_of("train", record["settings"])):
        logging.getLogger("vitcnn").warning("not as it was: %s", difference)
    return record["settings"]


def main(args):
    from vitcnn.training.record import train_run  # torch: after the cheap mistakes

    wrote = train_run(args.settings["spec"], args.data, args.out, args.device, args.threads)
    return Made(read=[args.data / "manifest.json"], wrote=wrote)


if __name__ == "__main__":
    run(main, parser, prepare)
