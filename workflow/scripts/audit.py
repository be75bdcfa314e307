"""Report which results are up to date, stale, missing, unused or unknown; exit with status 0 if all are up to date.

  snakemake audit                          with the configuration that Snakemake has
  python workflow/scripts/audit.py         with config.yaml and those of --configfile
  python workflow/scripts/audit.py --accept cifar10/vit/adam10/nall/seed0 --because "renamed a variable"
  python workflow/scripts/audit.py --remove cifar10/vit/adam10/nall/seed9

--accept keeps results although code or packages changed since. Unused results, which no experiment asks
for, are no error. They stay until they are removed by name.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn_hooks import study_jobs

from vitcnn import audit, plan
from vitcnn.cli import argument_parser, run
from vitcnn.config import load_config
from vitcnn.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]

parser = argument_parser(__doc__)
parser.add_argument(
    "--configfile", type=Path, nargs="*", default=[], help="configuration that extends config.yaml"
)
parser.add_argument("--remove", nargs="+", metavar="NAME", help="delete these unused runs or outputs")
parser.add_argument(
    "--accept",
    nargs="+",
    metavar="NAME",
    help='runs or outputs that a change of code or packages leaves as they are; "all" is all of them',
)
parser.add_argument("--because", metavar="TEXT", help="why, in words for the record; with --accept")


def main(args):
    study = args.settings or load_config(ROOT / "config.yaml", *args.configfile)
    accept_environment = study["accept_environment"]
    if bool(args.accept) != bool(args.because):
        raise StudyError("--accept and --because go together: say what is accepted, and why")
    more = plan.begun_experiments(study) + ["corruptions"] * plan.begun_corruptions(study)
    jobs = study_jobs(ROOT / "Snakefile", study, more)
    if args.accept:
        accepted = audit.accept_changes(jobs, accept_environment, args.accept, args.because)
        print(f"Accepted: {len(accepted)}")
        return
    if args.remove:
        audit.remove_unused(jobs, args.remove)
        return
    found = audit.audit(jobs, accept_environment)
    print(audit.in_words(found))
    if found["missing"] or found["stale"] or found["unknown"]:
        raise StudyError("Not everything is up to date.")


if __name__ == "__main__":
    run(main, parser)
