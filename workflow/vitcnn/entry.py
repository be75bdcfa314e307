"""What all entry points of `workflow/scripts` share: where their log goes, how they end."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from vitcnn.errors import StudyError


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option every entry point has, `--log`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the log there (default: stderr)")
    return parser


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line, call `main`, and end the process.

    What the user can mend ends with its message and status 1. Anything else keeps its traceback,
    which is in the log too.
    """
    args = parser.parse_args()
    if args.log:
        args.log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(args.log, encoding="utf-8") if args.log else logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=[handler])
    log = logging.getLogger("vitcnn")
    try:
        main(args)
    except StudyError as error:
        log.error("%s", error)
        sys.exit(f"\n{error}\n" if args.log else 1)
    except OSError as error:
        log.exception("%s", error)
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"\n{where}{error.strerror or error}. Nothing half-written was left behind.\n")
    except Exception:
        log.exception("a defect, or something nobody thought of")
        if not args.log:
            sys.exit(1)
        raise
