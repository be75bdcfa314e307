"""Say which results are fresh, stale, missing, orphaned or foreign; end with status 0 if all are fresh.

  snakemake audit                          with the configuration that Snakemake has
  python workflow/scripts/audit.py         with config.yaml and those of --configfile
  python workflow/scripts/audit.py --remove cifar10/vit/adam10/nall/seed9

Orphaned runs, which no experiment asks for any more, do not count against it. They stay until they
are removed by name.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import audit
from vitcnn.cli import argument_parser, run
from vitcnn.config import load_config
from vitcnn.errors import StudyError

parser = argument_parser(__doc__)
parser.add_argument(
    "--configfile", type=Path, nargs="*", default=[], help="configuration that extends config.yaml"
)
parser.add_argument("--remove", nargs="+", metavar="NAME", help="delete these orphaned runs or outputs")


def main(args):
    base = Path(__file__).resolve().parents[2] / "config.yaml"
    study = load_config(base, *args.configfile)
    if args.remove:
        audit.remove_orphans(study, args.remove)
        return
    found = audit.audit(study)
    print(audit.in_words(found))
    if found["missing"] or found["stale"] or found["foreign"]:
        raise StudyError("Not everything is fresh.")


if __name__ == "__main__":
    run(main, parser)
