"""Where the records decide what runs: every touch of Snakemake's own internals, each with its reason.

A job is ours if one of its outputs is named `provenance`, its record, and its parameter `command` has a `script`.
Other jobs, such as a user's own rules, are Snakemake's alone. tests/workflow/test_hooks.py fails by name if Snakemake
changes here.
"""

import functools
import gc
import inspect
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.jobs import Job as SnakemakeJob
from snakemake.jobs import Reason
from snakemake.logging import logger
from snakemake.persistence import PersistenceBase
from snakemake.resources import Resource
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings
from snakemake.workflow import Workflow

from vitcnn.provenance.freshness import Job, Verdict, judge

_SHOWN = 8  # reasons named for one job
# Snakemake's own, also where another copy of this module was here before.
_check_incomplete = inspect.unwrap(DAG.check_incomplete)
_shell_command = SnakemakeJob.shellcmd.fget

# What Snakemake's notes in .snakemake say of our jobs, which have records instead: no reason to run.
_NO_REASON = {
    "has_metadata": True,
    "has_outdated_metadata": False,
    "params_changed": (),
    "input_changed": (),
    "code_changed": (),
    "software_stack_changed": (),
}


class Stale(Reason):
    """A reason in the record's words; Snakemake shows it for the job, and in its list of reasons."""

    __slots__ = ("words",)

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        more = [f"and {len(words) - _SHOWN} more differences"] if len(words) > _SHOWN else []
        self.words = [*words[:_SHOWN], *more]

    def __bool__(self) -> bool:
        return not self.finished

    def __str__(self) -> str:
        return "; ".join(word for word in (*self.words, super().__str__()) if word)

    def get_names(self):
        yield from self.words
        yield from super().get_names()


def install(
    accept_environment: bool,
    on_graph: Callable[[list[SnakemakeJob], bool, bool], None],
    on_verdicts: Callable[[Mapping[str, Verdict]], None],
) -> None:
    """Let the records decide in this process.

    `on_graph` is called before they are read, with our jobs, whether they will run, and whether Snakemake
    locks the folder; `on_verdicts` is called with the verdicts.
    """
    # Nothing of a graph that grows is garbage, and to look for some takes a seventh of a large dry run.
    gc.disable()

    @functools.wraps(_check_incomplete)
    async def check_incomplete(dag: DAG) -> None:
        # The one place where the graph is whole and Snakemake has decided nothing yet.
        workflow = dag.workflow
        if workflow.is_main_process:
            jobs = our_jobs(dag)
            is_running = workflow.execution_settings is not None and not workflow.dryrun
            if is_running and workflow.touch and jobs:
                raise WorkflowError(
                    "--touch changes dates, and dates decide nothing here. To keep results although code or "
                    "packages changed: python workflow/scripts/audit.py --accept RUN --because TEXT"
                )
            for job in jobs:
                if not callable(job.rule.conda_env):
                    # Else Snakemake expands all params of each job for it, an eighth of a large dry run.
                    job._conda_env_spec = job.rule.expand_conda_env(job.wildcards_dict)
            on_graph(jobs, is_running, is_running and workflow.execution_settings.lock)
            on_verdicts(_enter_verdicts(dag, jobs, accept_environment))
        elif workflow.remote_exec:
            # --keep-going does not reach a group's job: without it one run that fails stops its group.
            workflow.execution_settings.keep_going = True
        gc.freeze()  # else the graph is searched for garbage at the end, which takes seconds
        gc.enable()
        await _check_incomplete(dag)

    DAG.check_incomplete = check_incomplete
    SnakemakeJob.shellcmd = property(_shown_command)


def _shown_command(job: SnakemakeJob) -> str | None:
    """Return a job's shell command, but not to a dry run that will not show it.

    Snakemake formats it three times, which takes a fifth of a large dry run. Of a user's own rule it still
    does, so that a command that cannot be formatted is found.
    """
    workflow = job.dag.workflow
    hidden = workflow.dryrun and not workflow.output_settings.printshellcmds and is_ours(job)
    return None if hidden else _shell_command(job)


def limit_resource(workflow: Workflow, name: str, number: int) -> None:
    """Limit a resource as --resources does, which goes first; without a limit it means nothing."""
    if name not in workflow.global_resources:
        workflow.register_resource(name, Resource(name, number))


def free_locks(workflow: Workflow) -> None:
    """Remove the locks that a killed Snakemake left in this folder, which is ours alone now."""
    workflow.persistence.cleanup_locks()
    Path(".snakemake/locks").mkdir(exist_ok=True)  # which it may remove too, and Snakemake needs


def verdicts_of(workflow: Workflow) -> Mapping[str, Verdict]:
    """Return the verdicts by record; none in a process that only runs a job for another one."""
    return getattr(workflow.dag, "verdicts", {})


def planned_jobs(workflow: Workflow) -> list[SnakemakeJob]:
    """Return our jobs that this invocation runs."""
    return [job for job in workflow.dag.needrun_jobs() if is_ours(job)]


def asked_jobs(workflow: Workflow) -> list[SnakemakeJob]:
    """Return our jobs that this invocation's targets consist of, also those that are up to date."""
    return our_jobs(workflow.dag)


def our_jobs(dag: DAG) -> list[SnakemakeJob]:
    """Return the jobs that keep a record, each after those it reads from."""
    return [job for level in dag.toposorted() for job in level if is_ours(job)]


def is_ours(job: SnakemakeJob) -> bool:
    """Return whether a job keeps a record."""
    return hasattr(job.output, "provenance") and hasattr(job.rule.params.get("command"), "script")


def job_of(dag: DAG, job: SnakemakeJob) -> Job:
    """Return a job as the records see it. Inputs that its rule declares `ancient` do not count."""
    makers = {
        file: producer.output.provenance
        for producer, files in dag.dependencies[job].items()
        if is_ours(producer)
        for file in files
    }
    asked = job.rule.params  # not job.params, which evaluates all of them
    made = [file for file in job.output if file != job.output.provenance]
    return Job(
        asked.command.script,
        job.output.provenance,
        tuple(str(file) for file in made if not file.is_temp),
        json.loads(asked.settings(job.wildcards)),
        {str(file): makers.get(file, "") for file in job.input if not file.is_ancient},
        tuple(dict.fromkeys(makers.values())),
        tuple(str(file) for file in made if file.is_temp),
    )


def study_jobs(snakefile: Path, study: Mapping[str, Any], more: Collection[str] = ()) -> list[Job]:
    """Return the jobs of everything that a checked configuration asks for, without running or judging any.

    `more` are targets that are not part of the whole study.
    """
    jobs: list[Job] = []

    class Enough(Exception):
        pass

    async def take(dag: DAG) -> None:
        jobs.extend(job_of(dag, job) for job in our_jobs(dag))
        raise Enough

    former = DAG.check_incomplete
    logger.setLevel(logging.WARNING)
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                ResourceSettings(cores=1), ConfigSettings(config=study), snakefile=snakefile
            )
            dag = workflow.dag(DAGSettings(targets={"all", *more}))
            DAG.check_incomplete = take  # parsing the Snakefile has installed the other
            dag.execute_workflow(executor="dryrun")
    except Enough:
        return jobs
    finally:
        gc.freeze()  # as install() does
        gc.enable()
        DAG.check_incomplete = former
    raise WorkflowError(f"{snakefile}: its graph could not be read")


def _enter_verdicts(dag: DAG, jobs: list[SnakemakeJob], accept_environment: bool) -> dict[str, Verdict]:
    """Judge our jobs, enter in Snakemake's graph which are stale, and return the verdicts by record.

    A job that must run masks all jobs below it in DAG.update_needrun, and the mask ends where a job
    reads only `ancient` files. So what a stale job makes is an ordinary input, and what any other job
    makes is ancient: all jobs below a stale one run, and end at once where the bytes turn out the same.
    """
    forced = {
        job.output.provenance
        for job in jobs
        if job.rule in dag.forcerules or not dag.forcefiles.isdisjoint(job.output)
    }
    wanted = {job.output.provenance for job in jobs if job in dag.targetjobs}
    verdicts = judge([job_of(dag, job) for job in jobs], accept_environment, forced, wanted)
    foreign = [verdict.foreign for verdict in verdicts.values() if verdict.foreign]
    if foreign:
        raise WorkflowError("\n".join(foreign))
    dag.verdicts = verdicts  # for verdicts_of()
    stale = {record for record, verdict in verdicts.items() if verdict.is_stale}
    for job in jobs:
        same = defaultdict(list)  # a file of the graph and that of the job's inputs are two objects
        for file in job.input:
            same[file].append(file)
        for producer, files in dag.dependencies[job].items():
            if is_ours(producer):
                for file in files:
                    for each in (file, *same[file]):
                        each.flags["ancient"] = producer.output.provenance not in stale
        verdict = verdicts[job.output.provenance]
        if verdict.reasons and verdict.record:
            dag._reason[job] = Stale(verdict.reasons)
        elif verdict.reasons:
            dag.reason(job).missing_output.update(job.output)
    _hide_notes(dag.workflow.persistence, set(jobs))
    return verdicts


def _hide_notes(persistence: PersistenceBase, jobs: set[SnakemakeJob]) -> None:
    """Let Snakemake's notes in .snakemake give our jobs no reason to run, nor pass for incomplete."""

    def hide(name: str, answer) -> None:
        asked = getattr(persistence, name)
        setattr(persistence, name, lambda job: answer if job in jobs else asked(job))

    for name, answer in _NO_REASON.items():
        hide(name, answer)
    incomplete = persistence.incomplete

    async def incomplete_of_others(job: SnakemakeJob) -> list:
        return [] if job in jobs else await incomplete(job)

    persistence.incomplete = incomplete_of_others
