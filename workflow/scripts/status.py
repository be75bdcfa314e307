"""Say how far a study is: what is done, running, failed and waiting, and the time left. It changes nothing.

  snakemake status                         with the configuration that Snakemake has
  python workflow/scripts/status.py        with that of the last invocation of Snakemake in this folder
  python workflow/scripts/status.py --watch

Run it beside a running study, as often as you like. "Done" is what is complete and has today's settings;
`snakemake audit` checks code, packages and data too.
"""

import json
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn import plan
from vitcnn.cli import argument_parser, run
from vitcnn.config import check_config, load_config
from vitcnn.files import read_json
from vitcnn.status import as_json, in_words, read_status

LAST = Path("logs/config.json")  # what Snakemake left
EVERY = 2.0  # seconds between two looks

parser = argument_parser(__doc__)
parser.add_argument("--configfile", type=Path, nargs="*", help="configuration that extends config.yaml")
parser.add_argument("--watch", action="store_true", help="look again every two seconds, until Ctrl-C")
parser.add_argument("--json", action="store_true", help="print every run as JSON")


def study(args):
    """Return the configuration: as given, else that of the last invocation, else config.yaml's."""
    if args.settings:
        return check_config(args.settings)
    base = Path(__file__).resolve().parents[2] / "config.yaml"
    if args.configfile is None and LAST.exists():
        return check_config(read_json(LAST))
    return load_config(base, *(args.configfile or ()))


def main(args):
    config = study(args)
    runs = plan.all_runs(config)
    while True:
        started = time.monotonic()
        status = read_status(config, runs, datetime.now())
        size = shutil.get_terminal_size()
        words = json.dumps(as_json(config, status)) if args.json else in_words(config, status, size.columns)
        if args.watch and sys.stdout.isatty():
            shown = words.splitlines()[: size.lines - 1]
            print("\033[H\033[J" + "\n".join(shown), flush=True)
        else:
            print(words, flush=True)
        if not args.watch:
            return
        # However many runs there are, a look takes a tenth of the time.
        time.sleep(max(EVERY, 9 * (time.monotonic() - started)))


if __name__ == "__main__":
    run(main, parser)
