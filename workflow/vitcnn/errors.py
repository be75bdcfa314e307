"""The one kind of error that is meant for the person at the keyboard."""


class StudyError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do.

    Entry points print the message alone; any other exception is a defect and keeps its traceback.
    """
