"""Seal the predictions in predictions/: note the digest of each file, and the time.

  snakemake seal

A file that is sealed and has not changed keeps its time. One that has changed is sealed anew.
"""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from vitcnn.cli import argument_parser, run
from vitcnn.predictions import seal

log = logging.getLogger("vitcnn")
parser = argument_parser(__doc__)


def main(args):
    for line in seal(args.settings, datetime.now(UTC)):
        print(line)
        log.info("%s", line)


if __name__ == "__main__":
    run(main, parser)
