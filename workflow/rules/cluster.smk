# What is different where jobs go to a cluster.
import shutil

from snakemake.jobs import GroupJob, GroupJobFactory

ON_CLUSTER = workflow.remote_exec or not workflow.local_exec

# Snakemake 9.27 keeps groups of jobs in a cache, and merges them there when a checkpoint has been passed,
# also those that run: then it no longer knows them. Groups of equal jobs are equal, so new ones will do.
GroupJobFactory.new = lambda self, id, jobs, resources: GroupJob(id, frozenset(jobs), resources)


def drop_last_checkpoints():
    """Remove what finished runs have kept: a checkpoint of the end of their training.

    On a cluster Snakemake can delete what is finished: all of a group of jobs of which one failed, and what
    a job makes that an invocation before has left in the queue. This is what it is then made again from.
    """
    if workflow.is_main_process:
        for run in RUNS:
            kept = run.folder / "checkpoint"
            if (run.folder / "metrics.json").exists() and (kept / "last.pt").exists():
                shutil.rmtree(kept)
