"""The one kind of error that is meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable
from typing import Any


class StudyError(Exception):
    """An error that the user can fix: the message says what is wrong, where, and what to do.

    Entry points print the message alone; any other exception is a defect and keeps its traceback.
    """


def suggest(word: Any, known: Iterable[Any]) -> str:
    """Return `; did you mean …?` with the nearest of the words that are known, or nothing if none is near."""
    by_lower_case = {str(k).lower(): k for k in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower_case, n=1)
    return f"; did you mean {by_lower_case[close[0]]}?" if close else ""
