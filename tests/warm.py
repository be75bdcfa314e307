"""Snakemake, its jobs and the project's scripts, run in forks of a process that has imported them already.

A run costs a tenth of a start of Python then. Each still has a process of its own, so that no state is
left over for the next: its folder, environment, streams and modules are those that it would have.

As a script this file is the process that forks. It reads one call per line from its standard input, as
JSON, and answers each with the status that it ended with. Another fork of it does the same for the jobs
of Snakemake, whose `sys.executable` is then JOB: it hands its command line over to that fork.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from unittest import mock

from snakemake import PIP_DEPLOYMENTS_PATH

ROOT = Path(__file__).parents[1]
SNAKEFILE = ROOT / "Snakefile"
USED_BY_SCRIPTS = ("pandas", "torch", "safetensors.torch", "matplotlib.figure", "scipy.stats")

JOB = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as job:
    job.connect({path!r})
    socket.send_fds(job, [b"x"], [1, 2])
    job.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    job.shutdown(socket.SHUT_WR)
    sys.exit(int(job.recv(9) or 1))
"""


class Warm:
    """The process that forks; it is started for the first call."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(
        self, command: list[str], cwd: Path, env: dict[str, str], timeout: float = 900
    ) -> subprocess.CompletedProcess:
        """Run `snakemake …` or `path/of/a/script.py …`; return its status and what it printed."""
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory()
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        with tempfile.TemporaryDirectory() as folder:
            streams = [f"{folder}/stdout", f"{folder}/stderr"]
            call = {"command": command, "cwd": str(cwd), "env": env, "streams": streams}
            print(json.dumps(call), file=self.process.stdin, flush=True)
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                self.stop()
                raise subprocess.TimeoutExpired(command, timeout)
            status = int(self.process.stdout.readline())
            printed = [Path(stream).read_text(encoding="utf-8") for stream in streams]
        return subprocess.CompletedProcess(command, status, *printed)

    def stop(self) -> None:
        """End the process, and with it a call that has not ended yet."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None
            self.folder.cleanup()


def serve(folder: Path) -> None:
    """Answer one call after the other, each in a fork; `folder` is for what jobs are started with."""
    warm_up()
    gc.freeze()  # so that no fork has to copy what it only looks through
    python = serve_jobs(folder)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            sys.executable = str(python)
            end_with(run(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os.killpg(0, signal.SIGKILL)  # pytest is gone: so is the fork that runs jobs


def serve_jobs(folder: Path) -> Path:
    """Start the fork that runs jobs; return the program to start them with in place of Python."""
    python, path = folder / "python", str(folder / "socket")
    python.write_text(JOB.format(python=sys.executable, path=path))
    python.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    if os.fork():
        listener.close()
        return python
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while True:
        job, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(job)
            os._exit(0)
        job.close()


def answer(job: socket.socket) -> None:
    """Run the command that comes through the socket, in a fork, and send back its status."""
    _, streams, _, _ = socket.recv_fds(job, 1, 2)
    command, cwd, env = json.loads(b"".join(iter(lambda: job.recv(1 << 16), b"")))
    child = os.fork()
    if not child:
        job.close()
        while command[0] in ("-X", "utf8"):
            command.pop(0)
        end_with(run(command, cwd, env, streams))
    _, status = os.waitpid(child, 0)
    job.sendall(str(os.waitstatus_to_exitcode(status) & 255).encode())


def warm_up() -> None:
    """Import what calls need, and whatever a dry run imports on its way."""
    for name in USED_BY_SCRIPTS:
        importlib.import_module(name)
    from snakemake.cli import main

    here = Path.cwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        mock.patch.object(atexit, "register"),
        contextlib.suppress(SystemExit),
    ):
        main(["--dry-run", "--snakefile", str(SNAKEFILE), "--workflow-profile=none", "--directory", folder])
    os.chdir(here)


def run(command: list[str], cwd: str, env: dict[str, str], streams: list[str | int]) -> int:
    """Be the process that is asked for; return the status that it would end with.

    `streams` are files for its output and its errors, or open descriptors.
    """
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # which is worked out once, from the environment of the process before
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, 1):
        is_open = isinstance(stream, int)
        os.dup2(stream if is_open else os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    program, *arguments = command
    sys.argv = [program, *arguments]
    try:
        if program == "snakemake":
            import snakemake.workflow
            from snakemake.cli import main

            sys.argv[0] = str(Path(snakemake.__file__).with_name("__main__.py"))
            snakemake.workflow.Workflow._rundir = cwd  # all that it notes when it is imported
            if str(SNAKEFILE) not in arguments:
                forget_modules()
            main(arguments)
        else:
            with contextlib.suppress(ValueError):  # which Snakemake adds when it is imported
                sys.path.remove(PIP_DEPLOYMENTS_PATH)
            if not Path(program).is_relative_to(ROOT):
                forget_modules()
            for folder in filter(None, env.get("PYTHONPATH", "").split(os.pathsep)):
                sys.path.insert(0, folder)
                if Path(folder, "sitecustomize.py").exists():  # as Python does when it starts
                    runpy.run_path(f"{folder}/sitecustomize.py")
            sys.path.insert(0, str(Path(program).parent))
            runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def forget_modules() -> None:
    """Forget the project's modules: another copy of it has its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("vitcnn", "vitcnn_hooks")]:
        del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if Path(folder) != ROOT / "workflow"]


def end_with(status: int) -> None:
    """End this process as Python does, but without taking apart what the process before it imported."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
