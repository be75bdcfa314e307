"""How far a study is, read beside it: records, locks and logs. Nothing is written and no lock is taken.

Results are "done" here when they are complete and have today's settings. Whether code, packages and data
are still the same takes longer to find out; `audit` does so.
"""

import json
import os
import platform
import re
import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tabulate import tabulate

from vitcnn import plan
from vitcnn.durations import duration
from vitcnn.plan import Run
from vitcnn.training.schedule import evaluations

LOGS = Path("logs/runs")
RESOLVED_CONFIG = Path("logs/config.json")  # of the last invocation that made something
TRAINING = Path("logs/training.json")  # the runs that the invocation under way trains, by name
WORKING = Path(".snakemake/working.lock")  # held while one is under way
STATES = ("done", "running", "failed", "waiting")
_TAIL = 1 << 16  # bytes at a log's end that are read; an epoch has 80
_SILENT = 600  # seconds without a line in the log from which on that is said
_LISTED = 20  # runs in one list
_TIMED = 3  # finished runs whose epochs are averaged for one setting

# In a record as files.write_json() writes it; to parse one takes ten times as long as to find this.
_UNFINISHED = '"outputs": null'
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (.*)")
_ATTEMPT = re.compile(r".+, attempt (\d+)$")
_EPOCH = re.compile(r"epoch (\d+) of (\d+): loss (\d+\.\d+), test accuracy (\d+\.\d+) %, \S+ s$")
_GPU = re.compile(r"GPU ([^\s,]+)")
_HOLDER = re.compile(r"process (\d+) on ([^\s,]+)(?:, job (\S+))?")


class Log(NamedTuple):
    """What a run's log says: the last epoch it finished, of how many, with its loss and its test accuracy (%).

    `epoch_seconds` is the median time from one epoch's line to the next, evaluation included; `at` is the
    time of the last line. `has_failed` is whether an error is the last thing in it, `last` the last line.
    """

    epoch: int = 0
    epochs: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    epoch_seconds: float | None = None
    at: datetime | None = None
    gpu: str = ""
    has_failed: bool = False
    last: str = ""


class RunStatus(NamedTuple):
    """Where one run stands: `state` is one of STATES.

    `where` names the GPU, the job and the host of a running one. `note` is what there is to say: the last
    words of a failed run, or what is odd about its files. `log` is where to read on, if there is a log.
    """

    run: Run
    state: str
    progress: Log = Log()
    where: str = ""
    note: str = ""
    log: Path | None = None


class Status(NamedTuple):
    """All runs of a study, and the seconds that those not finished take, as far as their epochs were measured.

    `seconds` has a run's remaining seconds, without those of which no epoch like theirs was measured;
    `seconds_left` is None where nothing runs.
    """

    runs: Mapping[Run, RunStatus]
    seconds: Mapping[Run, float]
    seconds_left: float | None

    def count(self, runs: Iterable[Run] | None = None) -> Counter[str]:
        """Return how many of `runs`, or of all, are in each state."""
        return Counter(self.runs[run].state for run in (self.runs if runs is None else runs))


def read_status(config: Mapping[str, Any], runs: Sequence[Run], now: datetime) -> Status:
    """Return the status of `runs` of a checked configuration, from the files in the working directory."""
    specs = Specs(config)
    again, since = made_again()
    found = {run: read_run(run, specs[run], now, since if run.name in again else 0) for run in runs}
    return summarize(found, specs, now)


def made_again() -> tuple[set[str], float]:
    """Return the runs that the invocation under way trains, by name, and the time from which their results count."""
    with suppress(OSError, ValueError):
        if is_held(WORKING):
            return set(json.loads(TRAINING.read_text(encoding="utf-8"))), TRAINING.stat().st_mtime
    return set(), 0


class Specs(dict[Run, dict[str, Any]]):
    """The spec of each run of a configuration; those that differ by their seed alone are resolved once."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def __missing__(self, run: Run) -> dict[str, Any]:
        alike = run._replace(seed=0)
        if alike not in self:
            self[alike] = plan.run_spec(self.config, alike)
        return self[alike] | {"seed": run.seed}


def summarize(found: Mapping[Run, RunStatus], specs: Specs, now: datetime) -> Status:
    """Return the status of all runs from that of each: it adds the time left."""
    seconds = _seconds(found, specs, now)
    at_a_time = sum(one.state == "running" for one in found.values())
    left = max([sum(seconds.values()) / at_a_time, *seconds.values()], default=0.0) if at_a_time else None
    return Status(found, seconds, left)


def read_run(run: Run, spec: Mapping[str, Any], now: datetime, since: float = 0) -> RunStatus:
    """Return where a run stands. What cannot be read is said in its note.

    Results that were written before `since`, a time of files, are being made again and count as none.
    """
    try:
        return _read_run(run, spec, now, since)
    except OSError as error:
        return RunStatus(run, "waiting", note=f"{error.filename}: cannot be read: {error.strerror}")


def _read_run(run: Run, spec: Mapping[str, Any], now: datetime, since: float) -> RunStatus:
    lock = run.folder / "provenance.lock"
    holder = _text(lock)
    is_running = holder is not None and _is_at_work(holder, lock)
    metrics, note = (None, "") if is_running else _metrics(run.folder, spec, since)
    if metrics is not None:
        last = metrics["history"][-1]
        progress = Log(last["epoch"], last["epoch"], last["train_loss"], last["test_accuracy"])
        return RunStatus(run, "done", progress)
    log = next((path for path in log_paths(run) if path.exists()), None)
    # The history has all attempts, so also the epochs before the last interruption.
    progress = read_log(_text(log_paths(run)[1], _TAIL) or _text(log_paths(run)[0], _TAIL) or "")
    progress = progress._replace(epochs=progress.epochs or evaluations(spec["recipe"]))
    if is_running:
        if progress.at and progress.at.timestamp() < lock.stat().st_mtime - 1:
            progress = Log(epochs=evaluations(spec["recipe"]))  # all that is in the log is of former attempts
        return RunStatus(run, "running", progress, _where(holder, progress), _silence(progress, now), log)
    if holder is not None:
        note = f"killed, after: {progress.last}" if progress.last else "killed before it wrote to its log"
        return RunStatus(run, "failed", progress, note=note, log=log)
    if progress.has_failed:
        return RunStatus(run, "failed", progress, note=progress.last, log=log)
    if (run.folder / "checkpoint").exists():
        return RunStatus(run, "waiting", progress, note=note or "interrupted, resumes from its checkpoint")
    return RunStatus(run, "waiting", note=note)


def log_paths(run: Run) -> tuple[Path, Path]:
    """Return a run's log of the newest attempt, and that of all attempts."""
    log = LOGS / f"{run.name}.log"
    return log, log.with_suffix(".history.log")


def read_log(text: str) -> Log:
    """Return what a run's log says. A last line that is cut off counts only where it is an error's."""
    epoch, epochs, loss, accuracy = 0, None, None, None
    gpu = next_gpu = ""
    has_failed = False
    gaps: list[float] = []
    since = at = None  # since: when the epoch under way began, where that is known
    last = ""
    for line in text.splitlines(keepends=True):
        last = line.strip() or last
        if line.startswith("Traceback (most recent call last)"):
            has_failed = True
        stamped = _STAMP.match(line)
        if not stamped or not line.endswith("\n"):
            continue
        try:
            at = datetime.fromisoformat(stamped[1])
        except ValueError:  # a damaged log
            continue
        message = stamped[2]
        if found := _EPOCH.match(message):
            if since:
                gaps.append((at - since).total_seconds())
            epoch, epochs, loss, accuracy = (int(found[1]), int(found[2]), float(found[3]), float(found[4]))
            since, has_failed = at, False
        elif found := _ATTEMPT.match(message):
            has_failed = False
            since, gpu, next_gpu = None, next_gpu, ""
            if found[1] == "1":  # later ones go on from a checkpoint, somewhere in an epoch
                epoch, epochs, loss, accuracy, since, gaps = 0, None, None, None, at, []
        elif found := _GPU.match(message):
            next_gpu, has_failed = found[1], False
    stamped = _STAMP.match(last)
    seconds = statistics.median(gaps) if gaps else None
    last = stamped[2] if stamped else last
    return Log(epoch, epochs, loss, accuracy, seconds, at, next_gpu or gpu, has_failed, last)


def _text(path: Path, end: int | None = None) -> str | None:
    """Return a file's text, or the lines in its last `end` bytes; None where there is no file."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if end and size > end:
                file.seek(size - end)
                file.readline()
            return file.read().decode("utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_held(lock: Path) -> bool:
    """Return whether a process is at work that has written its name into a lock file."""
    holder = _text(lock)
    return holder is not None and _is_at_work(holder, lock)


def _is_at_work(holder: str, lock: Path) -> bool:
    """Return whether the process that wrote a lock file still holds it.

    The lock itself is not tried: a job that began just then would take the trial for another job's. On
    another host nobody can be asked, and the file is believed.
    """
    found = _HOLDER.match(holder)
    if not found or found[2] != platform.node():  # it is being written, or of another host
        return True
    with suppress(psutil.Error, OSError):
        # A number that was given to a new process since: that began after the file was written.
        return psutil.Process(int(found[1])).create_time() <= lock.stat().st_mtime + 1
    return False


def _where(holder: str, progress: Log) -> str:
    """Return the GPU, job and host of a running run, in words; "" where it is just this machine's CPU."""
    found = _HOLDER.match(holder)
    job, host = (found[3], found[2]) if found else (None, None)
    places = [f"GPU {progress.gpu}"] if progress.gpu else []
    places += [f"job {job}"] if job else []
    words = ", ".join(places)
    return f"{words} on {host}".strip() if host and (job or host != platform.node()) else words


def _silence(progress: Log, now: datetime) -> str:
    """Return what there is to say of a running run: that it waits, or that its log has been silent for long."""
    if progress.last.startswith("waits for"):
        return progress.last
    if progress.at is None:
        return ""
    silent = (now - progress.at).total_seconds()
    is_long = silent > max(_SILENT, 5 * (progress.epoch_seconds or 0))
    return f"silent for {duration(silent)}" if is_long else ""


def _metrics(folder: Path, spec: Mapping[str, Any], since: float) -> tuple[dict[str, Any] | None, str]:
    """Return the metrics of a finished run of that spec, or None and what is odd about its files."""
    metrics, record = _text(folder / "metrics.json"), _text(folder / "provenance.json")
    if since and (metrics is None or (folder / "metrics.json").stat().st_mtime < since):
        return None, ""
    if metrics is None:
        is_finished = record is not None and _UNFINISHED not in record
        return None, "its metrics.json is gone" if is_finished else ""
    if record is None:
        return None, "its provenance.json is gone"
    if _UNFINISHED in record:
        return None, ""
    try:
        found = json.loads(metrics)
        last = found["history"][-1]
        if not all(isinstance(last[key], int | float) for key in ("epoch", "train_loss", "test_accuracy")):
            raise ValueError
    except (ValueError, KeyError, IndexError, TypeError):
        return None, "its metrics.json is damaged"
    return (found, "") if found.get("spec") == spec else (None, "its results are of other settings")


# Time left -------------------------------------------------------------------------------------


def _seconds(found: Mapping[Run, RunStatus], specs: Specs, now: datetime) -> dict[Run, float]:
    """Return the remaining seconds of each run that is running or waiting and can be compared with a measured one."""
    images = {dataset: _images(dataset) for dataset in {run.dataset for run in found}}

    def work(run: Run) -> float:
        """Return what an epoch is, in images trained on; to predict one is a third of that."""
        train, test = images[run.dataset]
        return (train if run.train_size == plan.ALL else int(run.train_size)) + test / 3

    paces: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    timed: Counter[tuple[str, str, str]] = Counter()
    for run, status in found.items():
        setting = run[:3]
        measured = status.progress.epoch_seconds
        if status.state == "done" and timed[setting] < _TIMED:
            timed[setting] += 1
            measured = _epoch_seconds(run)
        if measured and work(run):
            paces[setting].append(measured / work(run))
    seconds = {}
    for run, status in found.items():
        if status.state not in ("running", "waiting"):
            continue
        progress = status.progress
        each = progress.epoch_seconds
        if not each and (known := paces.get(run[:3])) and work(run):
            each = statistics.median(known) * work(run)
        if each:
            epochs = progress.epochs or evaluations(specs[run]["recipe"])
            spent = 0.0
            if status.state == "running" and progress.at:
                spent = min(each, max(0.0, (now - progress.at).total_seconds()))
            seconds[run] = max(0.0, (epochs - progress.epoch) * each - spent)
    return seconds


def _images(dataset: str) -> tuple[int, int]:
    """Return how many training and test images a packed dataset has; zeros where that is not known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        counts = json.loads(Path("resources", dataset, "packed", "manifest.json").read_text())["counts"]
        return int(counts["train"]["images"]), int(counts["test"]["images"])
    return 0, 0


def _epoch_seconds(run: Run) -> float | None:
    """Return the mean time of a finished run's epochs, evaluation included, or None where it is not known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        measured = json.loads((run.folder / "runtime.json").read_text())
        return (sum(measured["epoch_seconds"]) + sum(measured["evaluation_seconds"])) / len(
            measured["epoch_seconds"]
        )
    return None


# In words --------------------------------------------------------------------------------------


def in_words(config: Mapping[str, Any], status: Status, width: int) -> str:
    """Return a study's status as lines of at most `width` characters, where its names leave room for that."""
    parts = [summary(status), _table(config, status)]
    by_state = defaultdict(list)
    for one in status.runs.values():
        by_state[one.state].append(one)
    parts.append(_list("Running", (_running(one, status, width) for one in by_state["running"])))
    parts.append(_list("Failed", (_failed(one, width) for one in by_state["failed"])))
    parts.append(_notes(by_state["waiting"], width))
    return "\n\n".join(part for part in parts if part)


def summary(status: Status) -> str:
    """Return how many runs are done of all, how many are running, failed or waiting, and the time left."""
    counts = status.count()
    words = [f"{counts['done']:,} of {len(status.runs):,} runs done"]
    words += [f"{counts[state]:,} {state}" for state in STATES[1:] if counts[state]]
    left = time_left(status)
    return f"{', '.join(words)}{f'; {left}' if left else ''}"


def time_left(status: Status) -> str:
    """Return the time left in words; "" where nothing runs, or no epoch has been measured yet."""
    if not status.seconds_left:
        return ""
    counts = status.count()
    is_whole = len(status.seconds) == counts["running"] + counts["waiting"]
    return f"{'about' if is_whole else 'more than'} {duration(status.seconds_left)} left"


def _table(config: Mapping[str, Any], status: Status) -> str:
    """Return a row for each experiment, dataset and model, with its runs in each state."""
    rows = []
    for experiment, dataset, model, runs in groups(config, status):
        counts = status.count(runs)
        others = [counts[state] or "" for state in STATES[1:]]
        rows.append([experiment, dataset, model, f"{counts['done']}/{len(runs)}", *others])
    rows.insert(0, ["experiment", "dataset", "model", *STATES])  # as a row: tabulate pads headers
    return tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=["left"] * 3 + ["right"] * 4)


def groups(config: Mapping[str, Any], status: Status) -> Iterable[tuple[str, str, str, list[Run]]]:
    """Yield each dataset and model of the experiments all of whose runs are in `status`, with these runs.

    Of the optional ones that nobody asked for, some may be there: those that they share with others.
    """
    for experiment in plan.active_experiments(config):
        asked = plan.experiment_runs(config, experiment)
        together: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in asked if status.runs.keys() >= set(asked) else ():
            together[run.dataset, run.model].append(run)
        for (dataset, model), runs in together.items():
            yield experiment, dataset, model, runs


def _running(one: RunStatus, status: Status, width: int) -> str:
    words = [epochs_in_words(one.progress)]
    if one.run in status.seconds:
        words.append(f"{duration(status.seconds[one.run])} left")
    return _entry(one.run.name, ", ".join(word for word in (*words, one.where, one.note) if word), width)


def epochs_in_words(progress: Log) -> str:
    """Return how many epochs are finished, with the last one's loss and accuracy, in words."""
    words = f"epoch {progress.epoch} of {progress.epochs}"
    if progress.loss is None:
        return words
    return f"{words}, loss {progress.loss:.4f}, {progress.accuracy:.2f} %"


def _failed(one: RunStatus, width: int) -> str:
    lines = [f"  {one.run.name}", _indented(one.note, width)]
    return "\n".join([*lines, f"      {one.log}"] if one.log else lines)


def _notes(waiting: Sequence[RunStatus], width: int) -> str:
    """Return what is odd about waiting runs, each thing once with the runs that it is true of."""
    together: dict[str, list[str]] = defaultdict(list)
    for one in waiting:
        if one.note:
            together[one.note].append(one.run.name)
    entries = (
        _entry(names[0] + (f" and {len(names) - 1:,} more" if names[1:] else ""), note, width)
        for note, names in together.items()
    )
    return _list("Waiting, with a note", entries)


def _entry(name: str, words: str, width: int) -> str:
    line = f"  {name}  {words}"
    return line if len(line) <= width else f"  {name}\n{_indented(words, width)}"


def _indented(words: str, width: int) -> str:
    return textwrap.fill(words, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _list(title: str, entries: Iterable[str]) -> str:
    """Return entries under a title, as many as one reads; "" where there are none."""
    entries = list(entries)
    if len(entries) > _LISTED:
        entries = [*entries[:_LISTED], f"  and {len(entries) - _LISTED:,} more; --json has them all"]
    return "\n".join([title, *entries]) if entries else ""


def as_json(config: Mapping[str, Any], status: Status) -> dict[str, Any]:
    """Return a study's status as plain values: counts, seconds left, groups, and every run."""
    return {
        "runs_done": status.count()["done"],
        "runs_in_all": len(status.runs),
        "seconds_left": status.seconds_left,
        "groups": [
            {"experiment": experiment, "dataset": dataset, "model": model}
            | {state: status.count(runs)[state] for state in STATES}
            for experiment, dataset, model, runs in groups(config, status)
        ],
        "runs": [
            {
                "run": run.name,
                "state": one.state,
                **{key: getattr(one.progress, key) for key in ("epoch", "epochs", "loss", "accuracy")},
                "epoch_seconds": one.progress.epoch_seconds,
                "seconds_left": status.seconds.get(run),
                "where": one.where,
                "note": one.note,
                "log": str(one.log) if one.log else None,
            }
            for run, one in status.runs.items()
        ],
    }
