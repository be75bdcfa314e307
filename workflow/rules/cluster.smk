# What is different where jobs go to a cluster; there workflow.remote_exec is set in each of them.
from snakemake.jobs import GroupJob, GroupJobFactory, Job

# Snakemake 9.27 keeps groups of jobs in a cache, and merges them there when a checkpoint has been passed,
# also those that run: then it no longer knows them. Groups of equal jobs are equal, so new ones will do.
GroupJobFactory.new = lambda self, id, jobs, resources: GroupJob(id, frozenset(jobs), resources)

# A group is tried again as a whole, and a job that a killed invocation has left in the queue may come when
# another has long done the same. These leave what is made as it is; validate_images is none of them, since
# what it decodes is removed later.
LEAVE_WHAT_IS_MADE = ("copy_dataset", "sort_validation", "pack_dataset", "train", "probe_run")
UNLESS_MADE = "--unless-made" if workflow.remote_exec else ""
remove_existing_output = Job.remove_existing_output


async def keep_what_is_made(job):
    """Delete what a job is about to make, but for jobs that look themselves whether it is made."""
    if job.rule.name not in LEAVE_WHAT_IS_MADE:
        await remove_existing_output(job)


if workflow.remote_exec:
    Job.remove_existing_output = keep_what_is_made


def keep_going():
    """Let the others of a group have their turn where one run fails: --keep-going does not reach groups."""
    if workflow.remote_exec:
        workflow.execution_settings.keep_going = True
