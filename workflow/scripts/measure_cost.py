"""Measure what a model costs: its size, the time of forward passes, memory in training, energy."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, positive, run
from vitcnn.files import write_json
from vitcnn.provenance.record import JobFiles
from vitcnn.training.gpus import take_device

parser = argument_parser(__doc__)
parser.add_argument("--out", required=True, type=Path, help="file to write")
parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
parser.add_argument("--threads", type=positive, metavar="N", default=1)
parser.add_argument("--jobs-per-gpu", type=positive, metavar="N", default=1)


def main(args):
    device, slot = take_device(args.device, args.jobs_per_gpu)
    from vitcnn.training.cost import measure_cost  # imports torch, so only after the checks

    write_json(args.out, measure_cost(args.settings["spec"], device, args.threads))
    if slot:
        slot.release()
    return JobFiles(read=[], wrote=[args.out])


if __name__ == "__main__":
    run(main, parser)
