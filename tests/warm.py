"""Snakemake and the project's scripts, run in forks of one process that has imported them already.

A run costs a tenth of a start of Python then. Each still has a process of its own, so that no state is
left over for the next: its folder, environment, streams and modules are those that it would have.

As a script this file is the process that forks. It reads one call per line from its standard input, as
JSON, and answers each with the status that it ended with.
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
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[1]
SNAKEFILE = ROOT / "Snakefile"
USED_BY_SCRIPTS = ("pandas", "torch", "safetensors.torch", "matplotlib.figure")


class Warm:
    """The process that forks; it is started for the first call."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def run(
        self, command: list[str], cwd: Path, env: dict[str, str], timeout: float = 900
    ) -> subprocess.CompletedProcess:
        """Run `snakemake …` or `path/of/a/script.py …`; return its status and what it printed."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__],
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


def serve() -> None:
    """Answer one call after the other, each in a fork."""
    warm_up()
    gc.freeze()  # so that no fork has to copy what it only looks through
    for line in sys.stdin:
        child = os.fork()
        if not child:
            end_with(run(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


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


def run(command: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> int:
    """Be the process that is asked for; return the status that it would end with."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, 1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
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
            if not Path(program).is_relative_to(ROOT):
                forget_modules()
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
    serve()
