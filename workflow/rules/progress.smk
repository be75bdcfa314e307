# What is seen of the trainings while they run: on a terminal one line, in a file a line for each that is
# finished and one every five minutes; nothing with --quiet.
from snakemake.settings.enums import Quietness

from vitcnn.progress import Followed, Progress
from vitcnn.status import TRAINING


class Shown:
    """The progress of this invocation, once there is one."""

    progress = None


def show_progress():
    """Begin to follow the runs that this invocation trains."""
    runs = [plan.Run.parse(name) for name in names_to_train()]
    is_quiet = {Quietness.PROGRESS, Quietness.ALL} & set(workflow.output_settings.quiet or ())
    if runs and workflow.is_main_process and not is_quiet:
        followed = Followed(STUDY, runs, TRAINING.stat().st_mtime)
        Shown.progress = Progress(followed, logger, sys.stderr)
        atexit.register(hide_progress)


def hide_progress():
    """End it, however this invocation ends."""
    if Shown.progress:
        Shown.progress.stop()
