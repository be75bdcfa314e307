"""Show how far a study is: what is done, running, failed and waiting, and the time left. Only reads.

  snakemake status
  python workflow/scripts/status.py        with the configuration of Snakemake's last invocation here
  python workflow/scripts/status.py --watch

Run it beside a running study, as often as you like; it then uses that study's configuration. A run is "done" if
it is complete and has today's settings; `snakemake audit` also checks code, packages and data.
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
from vitcnn.interrupts import Interrupted
from vitcnn.status import RESOLVED_CONFIG, WORKING, as_json, in_words, is_held, read_status

EVERY = 2.0  # seconds between two looks

parser = argument_parser(__doc__)
parser.add_argument("--configfile", type=Path, nargs="*", help="configuration that extends config.yaml")
parser.add_argument("--watch", action="store_true", help="look again every two seconds, until Ctrl-C")
parser.add_argument("--json", action="store_true", help="print every run as JSON")


def study(args):
    """Return the configuration: of --configfile, of who trains here, as Snakemake has it, or of config.yaml."""
    base = Path(__file__).resolve().parents[2] / "config.yaml"
    if args.configfile is not None:
        return load_config(base, *args.configfile)
    if RESOLVED_CONFIG.exists() and (not args.settings or is_held(WORKING)):
        return check_config(read_json(RESOLVED_CONFIG))
    return check_config(args.settings) if args.settings else load_config(base)


def show(args, config):
    """Print the status once; on a terminal that is watched, in place of what it shows."""
    runs = plan.all_runs(config, plan.begun_experiments(config))
    status = read_status(config, runs, datetime.now())
    size = shutil.get_terminal_size()
    words = json.dumps(as_json(config, status)) if args.json else in_words(config, status, size.columns)
    if args.watch and sys.stdout.isatty():
        words = "\033[H\033[J" + "\n".join(words.splitlines()[: size.lines - 1])
    print(words, flush=True)


def main(args):
    config = study(args)
    try:
        while True:
            started = time.monotonic()
            show(args, config)
            if not args.watch:
                return
            # However many runs there are, a look takes a tenth of the time.
            time.sleep(max(EVERY, 9 * (time.monotonic() - started)))
    except Interrupted:
        if not args.watch:  # Ctrl-C is how a watch ends
            raise


if __name__ == "__main__":
    run(main, parser)
