"""What all entry points of `workflow/scripts` share: where their log goes, how they end."""

import argparse
import errno
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitcnn.errors import StudyError
from vitcnn.interrupts import Interrupted, raise_on_signals
from vitcnn.locks import one_at_a_time
from vitcnn.provenance.record import JobFiles, is_up_to_date, recording

_OF_THE_DISK = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every entry point has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="append the log to FILE and to its .history.log, which Snakemake does not empty (default: stderr)",
    )
    parser.add_argument(
        "--provenance", type=Path, metavar="FILE", help="write the record there (default: none)"
    )
    parser.add_argument(
        "--redo", action="store_true", help="run even if the record says that the output is up to date"
    )
    parser.add_argument(
        "--accept-environment",
        action="store_true",
        help="an output made with other versions of packages is up to date too",
    )
    parser.add_argument(
        "--settings",
        type=_settings,
        default={},
        metavar="JSON",
        help="what decides the output, by name; or @ and a file of it",
    )
    return parser


def positive(text: str) -> int:
    """Return the whole number of 1 or more that an option was given; raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _settings(text: str) -> Any:
    return json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)


def run(
    main: Callable[[argparse.Namespace], JobFiles],
    parser: argparse.ArgumentParser,
    prepare: Callable[[argparse.Namespace], None] = lambda args: None,
    ends_early: bool = True,
) -> None:
    """Parse the command line, call `main`, write the record of what it made, and end the process.

    `prepare` may complete the arguments first. The record digests the code that `main` reaches. With
    `ends_early`, an output that is up to date stays as it is. If another process is making the same output,
    this one waits for it and uses the result.

    An error that the user can fix and a signal end with a message and status 1. Any other exception keeps
    its traceback, which is also in the log.
    """
    args = parser.parse_args()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if args.log:
        args.log.parent.mkdir(parents=True, exist_ok=True)
        files = (args.log, args.log.with_suffix(".history.log"))
        handlers = [logging.FileHandler(file, encoding="utf-8") for file in files]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers)
    log = logging.getLogger("vitcnn")
    log.setLevel(logging.DEBUG if args.log else logging.INFO)
    raise_on_signals()
    try:
        prepare(args)
        if not args.provenance:
            main(args)
            return
        what = (args.provenance, Path(sys.argv[0]).stem, args.settings)
        with one_at_a_time(args.provenance.with_suffix(".lock")) as waited:
            if (waited or (ends_early and not args.redo)) and is_up_to_date(*what, args.accept_environment):
                log.info("%s: up to date", args.provenance)
                return
            with recording(*what) as made:
                made.append(main(args))
        return
    except Interrupted as interrupted:
        message = str(interrupted)
    except StudyError as error:
        log.debug("traceback", exc_info=True)
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written to
        log.debug("traceback", exc_info=True)
        where = error.filename2 or error.filename
        message = f"{f'{where}: ' if where else ''}{error.strerror or error}"
        if error.errno in _OF_THE_DISK:
            message += (
                "; is there room on that disk, and may it be written to? Nothing half-written was left behind"
            )
    except Exception:
        log.exception("an unexpected error")
        if not args.log:
            sys.exit(1)
        raise
    log.error("%s", message)
    sys.exit(f"\n{message}\n" if args.log else 1)
