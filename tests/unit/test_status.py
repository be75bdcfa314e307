"""Status beside a running study: from records, locks and logs, however little of them is there."""

import io
import json
import logging
import os
import platform
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, SMALL, merge

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.files import write_json, write_text
from vitcnn.locks import hold
from vitcnn.plan import Run
from vitcnn.progress import Followed, Line, Progress, terminal_line
from vitcnn.provenance.record import JobFiles, recording
from vitcnn.status import (
    TRAINING,
    WORKING,
    Log,
    as_json,
    in_words,
    log_paths,
    read_log,
    read_status,
    time_left,
)
from vitcnn.training.run import train_run

CONFIG = check_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL))
RUNS = plan.all_runs(CONFIG)
VIT, OTHER_VIT, CNN = (
    Run("cifar10", model, "adam10", "all", seed) for model, seed in (("vit", 0), ("vit", 1), ("cnn", 0))
)
NOW = datetime.now().replace(microsecond=0) + timedelta(hours=3)  # so lines of logs are newer than locks
HERE = f"process {os.getpid()} on {platform.node()}"
ERROR = """Traceback (most recent call last):
  File "train.py", line 1, in main
vitcnn.errors.StudyError: the training loss became nan in epoch 2; a lower lr may help
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(seconds_ago, message):
    """Return a line of a log, written that many seconds before NOW."""
    return f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%d %H:%M:%S},000 {message}\n"


def begun(run, seconds_ago, attempt=1):
    return line(seconds_ago, f"{run.name} on cpu, bf16, 1 threads, attempt {attempt}")


def epoch(number, seconds_ago, epochs=10, loss=1.5, accuracy=50.0):
    words = f"epoch {number} of {epochs}: loss {loss:.4f}, test accuracy {accuracy:.2f} %, 9.00 s"
    return line(seconds_ago, words)


def log(run, *lines):
    for path in log_paths(run):
        write_text(path, "".join(lines))


def work(run, holder=HERE):
    """Leave the lock file that a job writes."""
    write_text(run.folder / "provenance.lock", holder)


def finish(run, seed=None, seconds=10.0):
    """Leave what a finished run leaves, as far as status reads it."""
    history = [{"epoch": n, "train_loss": 1.25, "test_accuracy": 60.0} for n in (1, 2)]
    spec = plan.run_spec(CONFIG, run if seed is None else run._replace(seed=seed))
    write_json(run.folder / "metrics.json", {"history": history, "spec": spec})
    write_json(
        run.folder / "runtime.json", {"epoch_seconds": [seconds - 1] * 2, "evaluation_seconds": [1.0] * 2}
    )
    write_json(run.folder / "provenance.json", {"inputs": {}, "outputs": {"metrics.json": {}}})


def status(runs=RUNS):
    return read_status(CONFIG, runs, NOW)


def words(width=80):
    return in_words(CONFIG, status(), width)


def state(run):
    return status().runs[run].state


def test_an_empty_folder_has_everything_waiting():
    assert status().count() == {"waiting": len(RUNS)}
    assert words().startswith(f"0 of {len(RUNS)} runs done, {len(RUNS)} waiting\n")
    assert time_left(status()) == ""


def test_each_state_is_told_in_its_row_and_in_its_list():
    finish(VIT)
    work(OTHER_VIT)
    log(
        OTHER_VIT,
        line(31, "GPU 3"),
        begun(OTHER_VIT, 30),
        epoch(1, 20),
        epoch(2, 10, loss=0.75, accuracy=61.5),
    )
    log(
        CNN,
        begun(CNN, 30),
        epoch(1, 20),
        line(10, "traceback"),
        ERROR,
        line(10, "the training loss became nan in epoch 2"),
    )
    text = words(140)
    assert f"1 of {len(RUNS)} runs done, 1 running, 1 failed, {len(RUNS) - 3} waiting; " in text
    rows = [row.split() for row in text.splitlines()]
    assert ["comparison", "cifar10", "vit", "1/2", "1"] in rows
    assert ["comparison", "cifar10", "cnn", "0/2", "1", "1"] in rows
    assert f"  {OTHER_VIT.name}  epoch 2 of 10, loss 0.7500, 61.50 %, 70 s left, GPU 3" in text
    end = text.split("Failed\n")[1]
    assert end.startswith(
        f"  {CNN.name}\n      the training loss became nan in epoch 2\n      logs/runs/{CNN.name}.log"
    )


@pytest.mark.parametrize("width", [80, 140])
def test_no_line_is_wider_than_the_terminal(width):
    for number, run in enumerate(RUNS):
        if number % 3 == 0:
            work(run)
            log(run, line(31, "GPU 0"), begun(run, 30), epoch(1, 20), epoch(10, 10, 20, 12.3456, 100))
        elif number % 3 == 1:
            log(run, ERROR, line(5, "a long error, of many words, " * 10))
        else:
            finish(run, seed=7)
    text = words(width)
    assert max(map(len, text.splitlines())) <= width
    # What fits on one line stands on one.
    listed = text.split("Running\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) == {80: 2, 140: 1}[width] * len(RUNS[::3])


def test_a_lock_of_a_process_that_is_gone_is_a_killed_run():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    work(VIT, f"process {gone.pid} on {platform.node()}")
    log(VIT, begun(VIT, 30), epoch(1, 20))
    found = status().runs[VIT]
    assert found.state == "failed"
    assert found.note.startswith("killed, after: epoch 1 of 10: loss 1.5000")
    work(CNN, f"process {gone.pid} on {platform.node()}")
    assert status().runs[CNN].note == "killed before it wrote to its log"


def test_the_number_of_a_killed_process_may_be_another_ones_by_now():
    work(VIT)
    assert state(VIT) == "running"
    before = datetime(2001, 1, 1).timestamp()  # this process has not been there
    os.utime(VIT.folder / "provenance.lock", (before, before))
    assert state(VIT) == "failed"


def test_a_job_on_another_host_is_believed_and_said_to_be_silent():
    work(VIT, "process 1 on n2, job 5")
    log(VIT, line(4001, "GPU 0, assigned to job 5"), begun(VIT, 4000), epoch(1, 3900))
    found = status().runs[VIT]
    assert (found.state, found.where, found.note) == ("running", "GPU 0, job 5 on n2", "silent for 65 min")


def test_a_job_that_waits_for_a_gpu_says_so():
    work(VIT)
    log(VIT, line(30, "waits for one of the GPUs 0, 1"))
    assert f"{VIT.name}  epoch 0 of 2, waits for one of the GPUs 0, 1" in words(140)


def test_looking_takes_no_lock_and_writes_nothing(folder):
    lock = hold(VIT.folder / "provenance.lock")
    work(CNN)  # a lock that nobody holds is not tried either: a job may be about to take it
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    tried = subprocess.run(
        [sys.executable, "-c", TRIES, str(ROOT / "workflow")],
        input=json.dumps(CONFIG),
        capture_output=True,
        text=True,
        check=True,
    )
    assert tried.stdout == "[]\n"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert state(VIT) == "running"
    lock.release()


# Reads a status while it notes every call that locks a file or opens one for writing.
TRIES = """
import json, sys
from datetime import datetime
sys.path.insert(0, sys.argv[1])
from vitcnn import plan
from vitcnn.status import read_status
config = json.load(sys.stdin)
runs = plan.all_runs(config)
calls = []
def note(event, arguments):
    if event.startswith("fcntl.") or event == "open" and arguments[1] and set(arguments[1]) & set("wax+"):
        calls.append((event, str(arguments)))
sys.addaudithook(note)
read_status(config, runs, datetime.now())
print(calls)
"""


def test_logs_that_are_cut_off_empty_or_no_text():
    whole = begun(VIT, 30) + epoch(1, 20) + epoch(2, 10)
    for end in range(len(whole)):
        found = read_log(whole[:end])
        complete = whole[:end].count(" s\n")
        assert found.epoch == complete, whole[:end]
        assert not found.has_failed
    work(VIT)
    for path in log_paths(VIT):
        write_text(path, "")
        path.write_bytes(bytes(range(256)) * 1000)
    assert state(VIT) == "running"
    damaged = (
        whole.replace(f"{NOW:%Y}-", "2026-9") + "2026-99-99 99:99:99,999 epoch 3 of 10: loss 1.2.3, ...\n"
    )
    assert read_log(damaged).epoch == 0
    assert read_log(whole + ERROR[: len(ERROR) // 2]).has_failed


def test_of_a_long_log_the_end_is_read():
    work(VIT)
    noise = "".join(line(1000, f"a warning, number {n}") for n in range(5000))
    log(VIT, begun(VIT, 2000), epoch(1, 1900), noise, epoch(2, 10))
    assert status().runs[VIT].progress.epoch == 2


def test_attempts_go_on_and_begin_anew():
    first = (
        begun(VIT, 100)
        + epoch(1, 90)
        + epoch(2, 80)
        + line(75, "stopped by SIGTERM; the next attempt resumes")
    )
    found = read_log(first)
    assert (found.epoch, found.epoch_seconds, found.has_failed) == (2, 10, False)
    found = read_log(first + begun(VIT, 60, attempt=2))
    assert (found.epoch, found.epochs, found.loss) == (2, 10, 1.5)
    found = read_log(first + begun(VIT, 60, attempt=2) + epoch(3, 58) + epoch(4, 48) + epoch(5, 38))
    assert (found.epoch, found.epoch_seconds) == (5, 10)  # the two seconds are the rest of an epoch
    found = read_log(first + begun(VIT, 60))  # of other settings
    assert (found.epoch, found.epochs, found.loss) == (0, None, None)
    assert not read_log(ERROR + line(5, "failed") + begun(VIT, 4)).has_failed


def test_what_a_real_training_logs_is_understood(data):
    handler = logging.FileHandler("log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))  # as cli.run() sets it
    logger = logging.getLogger("vitcnn")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        VIT.folder.mkdir(parents=True)
        train_run(plan.run_spec(CONFIG, VIT), data, VIT.folder, "cpu", 1)
    finally:
        logger.removeHandler(handler)
        handler.close()
    found = read_log(Path("log.txt").read_text())
    last = json.loads((VIT.folder / "metrics.json").read_text())["history"][-1]
    assert (found.epoch, found.epochs) == (last["epoch"], 2)
    assert found.loss == pytest.approx(last["train_loss"], abs=1e-4)
    assert found.accuracy == pytest.approx(last["test_accuracy"], abs=0.01)
    assert found.epoch_seconds > 0


def test_records_begun_and_finished():
    finish(VIT)
    settings = {"spec": plan.run_spec(CONFIG, VIT)}
    record = VIT.folder / "provenance.json"
    record.unlink()
    with recording(record, "train", settings) as made:
        assert state(VIT) == "waiting"  # results of before, which are being made again
        made.append(JobFiles([], [VIT.folder / "metrics.json"]))
    assert state(VIT) == "done"


@pytest.mark.parametrize(
    ("harm", "note"),
    [
        (lambda: (VIT.folder / "metrics.json").unlink(), "its metrics.json is gone"),
        (lambda: (VIT.folder / "provenance.json").unlink(), "its provenance.json is gone"),
        (lambda: os.truncate(VIT.folder / "metrics.json", 40), "its metrics.json is damaged"),
        (lambda: write_json(VIT.folder / "metrics.json", []), "its metrics.json is damaged"),
        (lambda: write_json(VIT.folder / "metrics.json", {"history": []}), "its metrics.json is damaged"),
        (lambda: finish(VIT, seed=5), "its results are of other settings"),
    ],
)
def test_a_run_that_is_half_there_is_noted(harm, note):
    finish(VIT)
    harm()
    assert (state(VIT), status().runs[VIT].note) == ("waiting", note)
    assert f"{VIT.name}  {note}" in words(140)


def test_a_file_in_the_place_of_a_folder_is_said():
    write_text(VIT.folder.parent, "")
    assert state(VIT) == "waiting"
    (CNN.folder / "metrics.json").mkdir(parents=True)
    assert status().runs[CNN].note == f"{CNN.folder / 'metrics.json'}: cannot be read: Is a directory"


def test_an_interrupted_run_waits_with_its_checkpoint():
    log(VIT, begun(VIT, 100), epoch(1, 90), line(85, "stopped by SIGINT; the next attempt resumes here"))
    (VIT.folder / "checkpoint").mkdir(parents=True)
    found = status().runs[VIT]
    assert (found.state, found.progress.epoch) == ("waiting", 1)
    assert found.note == "interrupted, resumes from its checkpoint"


def test_time_left_is_that_of_measured_epochs():
    """Two at a time: of one setting 8 epochs of 10 s, less 4 s; of the other a run as long as a finished one."""
    runs = [VIT, OTHER_VIT, CNN]
    counts = {"train": {"images": 900}, "test": {"images": 300}}
    write_json(Path("resources/cifar10/packed/manifest.json"), {"counts": counts})
    work(VIT)
    log(VIT, begun(VIT, 24), epoch(1, 14), epoch(2, 4))
    assert (
        time_left(status(runs)) == "more than 2 min left"
    )  # 76 s and 2 epochs of 10 s; nothing is known of the CNN
    finish(CNN._replace(seed=1), seconds=40.0)
    found = status([*runs, CNN._replace(seed=1)])
    assert found.seconds == {VIT: 76.0, OTHER_VIT: 20.0, CNN: 80.0}
    assert found.seconds_left == 176.0
    work(CNN)
    found = status([*runs, CNN._replace(seed=1)])
    assert found.seconds_left == 88.0
    assert time_left(found) == "about 88 s left"


def test_a_size_not_measured_yet_is_scaled_by_its_images():
    small, large = (Run("cifar10", "simple_vit", "adamw10", size, 0) for size in (100, 500))
    counts = {"train": {"images": 900}, "test": {"images": 300}}
    write_json(Path("resources/cifar10/packed/manifest.json"), {"counts": counts})
    finish(small, seconds=20.0)
    work(large)
    assert status([small, large]).seconds[large] == pytest.approx(2 * 20 * 600 / 200)


def test_json_has_every_run():
    finish(VIT)
    work(CNN)
    log(CNN, begun(CNN, 30), epoch(1, 20))
    found = json.loads(json.dumps(as_json(CONFIG, status())))
    assert [one["run"] for one in found["runs"]] == [run.name for run in RUNS]
    assert (found["runs_done"], found["runs_in_all"]) == (1, len(RUNS))
    running = next(one for one in found["runs"] if one["state"] == "running")
    assert running["log"] == f"logs/runs/{CNN.name}.log"
    assert (running["epoch"], running["epochs"], running["epoch_seconds"]) == (1, 10, 10)
    rows = [row for row in found["groups"] if row["experiment"] == "comparison" and row["model"] == "vit"]
    assert rows == [
        {
            "experiment": "comparison",
            "dataset": "cifar10",
            "model": "vit",
            "done": 1,
            "running": 0,
            "failed": 0,
            "waiting": 1,
        }
    ]


def test_an_optional_experiment_that_nobody_began_has_no_rows():
    """Although it shares runs with the whole study."""
    more = CONFIG["experiments"]["comparison"] | {"seeds": [0, 1, 2], "optional": True}
    config = CONFIG | {"experiments": CONFIG["experiments"] | {"more": more}}
    for runs, shown in ((RUNS, False), (plan.all_runs(config, ["more"]), True)):
        found = as_json(config, read_status(config, runs, NOW))
        assert ("more" in {row["experiment"] for row in found["groups"]}) is shown


def test_a_watch_has_the_configuration_of_the_last_invocation_and_ends_with_ctrl_c():
    write_json(Path("logs/config.json"), CONFIG)
    finish(VIT)
    command = [sys.executable, ROOT / "workflow/scripts/status.py", "--json", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        found = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert (found["runs_done"], found["runs_in_all"]) == (1, len(RUNS))
    assert (process.returncode, said) == (0, "")


def test_long_lists_end_with_a_number():
    for run in (many := [VIT._replace(seed=seed) for seed in range(25)]):
        log(run, ERROR)
    found = in_words(CONFIG, read_status(CONFIG, many, NOW), 80)
    assert found.endswith("  and 5 more; --json has them all")


# Progress ----------------------------------------------------------------------------------------


def many_running(number):
    runs = [VIT._replace(seed=seed) for seed in range(number)]
    for run in runs:
        work(run)
        log(run, begun(run, 20), epoch(1, 10, loss=1.2345, accuracy=56.78))
    return runs


def test_one_run_has_its_name_and_several_as_many_as_find_room():
    line = terminal_line(status(many_running(1)), 80)
    assert line == "0 of 1 runs, 80 s left | cifar10/vit/nall/seed0 1/10 1.23 56.8 %"
    found = status(many_running(3))
    assert (
        terminal_line(found, 80)
        == "0 of 3 runs, 80 s left | vit 1/10 1.23 56.8 % | vit 1/10 1.23 56.8 % | +1"
    )
    assert terminal_line(found, 140).count("vit 1/10 1.23 56.8 %") == 3
    assert terminal_line(found, 200).count("cifar10/vit/nall/seed") == 3


@pytest.mark.parametrize("width", [20, 79, 80, 81, 140])
def test_the_line_never_reaches_the_last_column(width):
    for number in (1, 2, 5, 40):
        assert len(terminal_line(status(many_running(number)), width)) < width


def test_no_line_while_nothing_is_trained():
    finish(VIT)
    assert terminal_line(status(), 80) == ""


def test_what_is_made_again_counts_once_it_is_made():
    finish(VIT)
    finish(CNN)
    write_json(TRAINING, [VIT.name])
    since = VIT.folder.joinpath("metrics.json").stat().st_mtime + 5
    os.utime(TRAINING, (since, since))
    assert status([VIT, CNN]).count() == {"done": 2}  # that invocation has ended
    write_text(WORKING, HERE)
    assert (state(VIT), state(CNN)) == ("waiting", "done")
    followed = Followed(CONFIG, [VIT], since)
    assert followed.look(NOW).count() == {"waiting": 1}
    work(VIT)
    assert followed.look(NOW).count() == {"running": 1}
    (VIT.folder / "provenance.lock").unlink()
    os.utime(VIT.folder / "metrics.json", (since + 1, since + 1))
    assert followed.look(NOW).count() == {"done": 1}
    assert state(VIT) == "done"


def test_the_log_of_a_former_training_is_not_the_new_ones():
    log(VIT, begun(VIT, 30 + 4 * 3600), epoch(1, 20 + 4 * 3600))
    work(VIT)
    assert status().runs[VIT].progress == Log(epochs=2)


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """Return the lines as they are seen: what was cleared is not."""
        return [line.split("\r\033[K")[-1] for line in self.getvalue().split("\n")]


@pytest.fixture
def logger():
    logger = logging.Logger("snakemake")
    yield logger
    for handler in logger.handlers:
        handler.close()


def wait_until(condition, thread):
    while not condition():
        assert thread.is_alive()
        thread.join(0.01)


def test_a_loggers_lines_stay_above_the_line_and_it_is_gone_in_the_end(logger, monkeypatch):
    monkeypatch.setattr("vitcnn.progress.EVERY", 0.01)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    logger.addHandler(logging.StreamHandler(terminal))
    progress = Progress(Followed(CONFIG, many_running(2), 0), logger, terminal)
    wait_until(lambda: terminal.screen()[-1].startswith("0 of 2 runs"), progress.thread)
    for number in range(100):
        logger.info("line %d", number)
    assert terminal.screen()[:-1] == [f"line {number}" for number in range(100)]
    assert terminal.screen()[-1].startswith("0 of 2 runs")
    progress.stop()
    progress.stop()
    logger.info("the end")
    assert terminal.screen()[-2:] == ["the end", ""]
    assert not progress.thread.is_alive()
    assert not logger.filters


def test_no_line_is_drawn_into_one_that_is_being_written(logger):
    terminal = Terminal()

    class Slow(logging.Handler):
        def emit(self, record):
            terminal.write("half of ")
            line.show("new")
            terminal.write("a line\n")

    logger.addHandler(Slow())
    line = Line(terminal, logger)
    line.show("old")
    logger.info("")
    assert terminal.screen() == ["half of a line", "new"]


def test_a_file_has_a_line_for_each_finished_run_and_one_every_five_minutes(logger, monkeypatch):
    monkeypatch.setattr("vitcnn.progress.EVERY", 0.01)
    out = io.StringIO()
    logger.addHandler(logging.StreamHandler(out))
    runs = many_running(6)
    progress = Progress(Followed(CONFIG, runs, 0), logger, out)
    finish(VIT)
    (VIT.folder / "provenance.lock").unlink()
    wait_until(out.getvalue, progress.thread)
    assert out.getvalue().startswith(f"{VIT.name} is trained: 60.00 % on the test images; 1 of 6 runs done, ")
    said = out.getvalue()
    progress.next_line = 0  # five minutes are over
    wait_until(lambda: out.getvalue() != said, progress.thread)
    added = out.getvalue().removeprefix(said)
    assert added.startswith("1 of 6 runs done, 5 running; about ")
    assert f"; {runs[4].name}: epoch 1 of 10, loss 1.2345, 56.78 %; 1 more\n" in added
    finish(runs[1])
    (runs[1].folder / "provenance.lock").unlink()
    progress.stop()  # what has not been said is said
    assert "2 of 6 runs done" in out.getvalue().splitlines()[-1]
    assert len(out.getvalue().splitlines()) == 3
