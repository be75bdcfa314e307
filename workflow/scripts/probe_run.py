"""Measure what the model of a finished run computes, beside the same model before training."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, positive, run
from vitcnn.provenance.record import JobFiles
from vitcnn.training.gpus import take_device

parser = argument_parser(__doc__)
parser.add_argument("--data", required=True, type=Path, help="packed dataset")
parser.add_argument("--weights", required=True, type=Path, help="model.safetensors of the run")
parser.add_argument("--out", required=True, type=Path, help="NumPy file to write")
parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
parser.add_argument("--threads", type=positive, metavar="N", default=1)
parser.add_argument("--jobs-per-gpu", type=positive, metavar="N", default=1)


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
    run(main, parser)
