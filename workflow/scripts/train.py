"""Train one run and write its metrics, runtime, weights and predictions.

Snakemake passes the run as a resolved spec in the settings. By hand, name the run, or the record of a run
to repeat:

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
from vitcnn.cli import argument_parser, positive, run
from vitcnn.config import load_config
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, read_json
from vitcnn.provenance.record import JobFiles, differences, fingerprint, read_record, to_match
from vitcnn.training.gpus import take_device

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
    type=positive,
    metavar="N",
    help="CPU threads (default: as configured, or 1)",
)
parser.add_argument(
    "--jobs-per-gpu",
    type=positive,
    metavar="N",
    help="jobs that may share a GPU (default: as configured, or 1)",
)
parser.add_argument(
    "--graphs",
    choices=["auto", "off"],
    help="off: no CUDA graphs; every step is launched kernel by kernel, which should give the same "
    "result (default: as configured, or auto)",
)
parser.add_argument(
    "--checkpoint-seconds",
    type=float,
    metavar="S",
    help="seconds of work that a kill may cost at most",
)


def prepare(args):
    """Complete what the command line leaves open: the spec, where things are, and what may be used."""
    defaults = {"device": "auto", "threads": 1, "jobs_per_gpu": 1, "graphs": "auto"}
    if args.run:
        defaults = load_config(args.config)
        args.settings = {"spec": plan.run_spec(defaults, plan.Run.parse(args.run))}
    elif args.repeat:
        defaults |= repeat(args)
    try:
        asked = plan.spec_run(args.settings["spec"])
    except (KeyError, TypeError) as error:
        raise StudyError(
            f"no run to train: name one, as --run cifar10/vit/adam10/nall/seed0, or repeat one, as --repeat FILE; "
            f"the settings lack {error}"
        ) from error
    args.data = args.data or Path("resources", asked.dataset, "packed")
    args.out = args.out or asked.folder
    args.provenance = args.provenance or args.out / "provenance.json"
    args.device = args.device or defaults["device"]
    args.threads = args.threads or defaults["threads"]
    args.jobs_per_gpu = args.jobs_per_gpu or defaults["jobs_per_gpu"]
    args.graphs = args.graphs or defaults["graphs"] or "off"  # YAML reads a plain off as false
    if (args.out / "metrics.json").exists() and not read_record(args.provenance):
        raise StudyError(
            f"{args.out}: holds files that are not known to be a run of this study; move them away, or use --out"
        )


def repeat(args):
    """Take the settings of a run's record, log what has changed since, and return device, threads and graphs."""
    record = read_record(args.repeat)
    if record is None or record["script"] != "train" or not record["inputs"]:
        raise StudyError(f"{args.repeat}: there is no record of a finished run")
    if not args.out or args.out.resolve() == args.repeat.resolve().parent:
        raise StudyError("--repeat: needs --out, another folder: the finished run stays as it is")
    args.settings = record["settings"]
    differing = list(differences(record, to_match(record, fingerprint("train", args.settings))))
    packed = (
        args.data or Path("resources", args.settings["spec"]["dataset"]["name"], "packed")
    ) / "manifest.json"
    if packed.exists() and file_digest(packed) not in record["inputs"].values():
        differing.append(f"{packed} has other content")
    for difference in differing:
        logging.getLogger("vitcnn").warning("changed since: %s", difference)
    runtime = args.repeat.with_name("runtime.json")
    if not runtime.exists():
        return {}
    measured = read_json(runtime, "runtime.schema.json")
    graphs = "off" if measured.get("graphs") == "off" else "auto"
    return {"device": measured["device"]["type"], "threads": measured["threads"], "graphs": graphs}


def main(args):
    device, slot = take_device(args.device, args.jobs_per_gpu)
    from vitcnn.training.run import train_run  # imports torch, so only after the checks

    wrote = train_run(
        args.settings["spec"],
        args.data,
        args.out,
        device,
        args.threads,
        graphs=args.graphs,
        fingerprint=read_json(args.provenance)["digest"],
        checkpoint_seconds=args.checkpoint_seconds,
    )
    if slot:
        slot.release()
    return JobFiles(read=[args.data / "manifest.json"], wrote=wrote, scratch=args.out / "checkpoint")


if __name__ == "__main__":
    run(main, parser, prepare)
