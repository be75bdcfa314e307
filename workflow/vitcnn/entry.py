"""What all entry points of `workflow/scripts` share: where their log goes, how they end."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from vitcnn.errors import StudyError
from vitcnn.provenance.record import Made, recording


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every entry point has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the log there (default: stderr)")
    parser.add_argument(
        "--provenance", type=Path, metavar="FILE", help="write the record there (default: none)"
    )
    parser.add_argument(
        "--settings", type=json.loads, default={}, metavar="JSON", help="what decides the output, by name"
    )
    return parser


def run(
    main: Callable[[argparse.Namespace], Made],
    parser: argparse.ArgumentParser,
    prepare: Callable[[argparse.Namespace], None] = lambda args: None,
) -> None:
    """Parse the command line, call `main`, write the record of what it made, and end the process.

    `prepare` may complete the arguments first. What `main` reaches is the code that the record digests.

    What the user can mend ends with its message and status 1. Anything else keeps its traceback,
    which is in the log too.
    """
    args = parser.parse_args()
    if args.log:
        args.log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(args.log, encoding="utf-8") if args.log else logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=[handler])
    log = logging.getLogger("vitcnn")
    log.setLevel(logging.DEBUG if args.log else logging.INFO)
    try:
        prepare(args)
        if args.provenance:
            with recording(args.provenance, Path(sys.argv[0]).stem, args.settings) as made:
                made.append(main(args))
        else:
            main(args)
        return
    except StudyError as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written to
        log.debug("traceback", exc_info=True)
        where = error.filename2 or error.filename
        message = f"{f'{where}: ' if where else ''}{error.strerror or error}"
        message += (
            "; is there room on that disk, and may it be written to? Nothing half-written was left behind"
        )
    except Exception:
        log.exception("a defect, or something nobody thought of")
        if not args.log:
            sys.exit(1)
        raise
    log.error("%s", message)
    sys.exit(f"\n{message}\n" if args.log else 1)
