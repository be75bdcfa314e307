"""Measure what the model of a finished run computes, beside the same model before training.

Snakemake passes the run as a resolved spec in the settings. By hand, name the run:

  python workflow/scripts/probe_run.py --run cifar10/vit/adam10/nall/seed0
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.cli import argument_parser, run
from vitcnn.config import load_config
from vitcnn.provenance.record import JobFiles
from vitcnn.training.gpus import take_device

parser = argument_parser(__doc__)
parser.add_argument("--run", metavar="NAME", help="the run's name; its settings are those of --config")
parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="default: config.yaml")
parser.add_argument("--data", type=Path, help="packed dataset (default: resources/DATASET/packed)")
parser.add_argument("--weights", type=Path, help="default: model.safetensors in the run's folder")
parser.add_argument("--out", type=Path, help="default: representations.npz in the run's folder")
parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
parser.add_argument("--threads", type=int, metavar="N", choices=range(1, 1025), default=1)
parser.add_argument("--jobs-per-gpu", type=int, metavar="N", choices=range(1, 1025), default=1)


def prepare(args):
    """Complete what the command line leaves open: the spec, and where things are."""
    if args.run:
        args.settings = {"spec": plan.run_spec(load_config(args.config), plan.Run.parse(args.run))}
    asked = plan.spec_run(args.settings["spec"])
    args.data = args.data or Path("resources", asked.dataset, "packed")
    args.weights = args.weights or asked.folder / "model.safetensors"
    args.out = args.out or asked.folder / "representations.npz"


def main(args):
    device, slot = take_device(args.device, args.jobs_per_gpu)
    from vitcnn.representations.probe import probe_run  # imports torch, so only after the checks

    settings = args.settings
    also = settings.get("also", [])
    probe_run(settings["spec"], also, args.weights, args.data, args.out, device, args.threads)
    if slot:
        slot.release()
    return JobFiles(read=[args.weights, args.data / "manifest.json"], wrote=[args.out])


if __name__ == "__main__":
    run(main, parser, prepare)
