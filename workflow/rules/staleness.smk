# What is made again. Left to itself Snakemake goes by the times of files and by notes in .snakemake:
# it misses edits of imported modules, and reruns all after a copy. Here the record beside each output
# decides (workflow/vitcnn/provenance): stale outputs are forced, and inputs that are not stale are
# `ancient`, so that their times count for nothing.
import atexit
import os

from vitcnn.files import canonical_json, write_json
from vitcnn.locks import hold, holder
from vitcnn.provenance.environment import not_as_locked
from vitcnn.provenance.freshness import Freshness, in_words
from vitcnn.steps import Steps

STEPS = Steps(STUDY)
RESOLVED_CONFIG = "logs/config.json"  # of the last invocation, for audit and for what runs by hand
VERDICTS = {}  # by output: why each stale job of this invocation is one
STALE = config["stale"] = (
    {}
)  # by output, why; the report's first page knows the configuration alone


def claim_folder():
    """Let one invocation at a time work in a folder, and none be stopped by what a killed one left there.

    The lock is the kernel's. Where it is held, Snakemake's own locks are nobody's, and what it noted as
    incomplete the records know better. Jobs that go on after their Snakemake was killed are waited for: a
    plan that was made before they end would have them done again.
    """
    path = Path(".snakemake/working.lock")
    Judge.lock = hold(path)  # until this process ends
    if Judge.lock is None:
        print(
            f"\n{holder(path)} works in this folder; wait for its end, or stop it\n",
            file=sys.stderr,
        )
        sys.exit(1)
    # Not by rglob: before Python 3.12 it fails where a folder goes while it looks.
    results = (
        Path(folder, name)
        for folder, _, names in os.walk("results", followlinks=True)
        for name in names
    )
    locks = [path for path in results if path.suffix == ".lock"]
    for lock in [*Path("resources").glob("*/provenance/*.lock"), *locks]:
        held = hold(lock)
        if not held:
            print(
                f"\n{holder(lock)} is still at work in {lock.parent}; waits for its end",
                file=sys.stderr,
            )
            held = hold(lock, wait=True)
        lock.unlink(missing_ok=True)
        held.release()
    workflow.persistence.cleanup_locks()
    Path(".snakemake/locks").mkdir()  # which it removes too, and Snakemake needs
    workflow.dag.ignore_incomplete = True


class Judge:
    """Judges all steps, and anew when data have been packed in this invocation."""

    lock = None
    packed = -1
    forced = ()
    freshness = None

    @classmethod
    def judge(cls, step):
        if cls.freshness is None:  # the graph has just been begun
            workflow.dag_settings.rerun_triggers = frozenset()  # what .snakemake remembers
            if workflow.execution_settings is not None and not workflow.dryrun:
                limit_gpu_jobs()
                claim_folder()
            rules = {rule.name for rule in workflow.dag.forcerules}
            cls.forced = rules | set(workflow.dag.forcefiles)
        if len(checkpoints.created_output) != cls.packed:
            if cls.packed > 0:  # what was asked for of the data has been done
                cls.forced -= {
                    "fetch_dataset",
                    "copy_dataset",
                    "sort_validation",
                    "validate_images",
                    "pack_dataset",
                }
            cls.packed = len(checkpoints.created_output)
            cls.freshness = Freshness(STUDY["accept_environment"], cls.forced)
            plan.refuse_oversized(STUDY, Path("resources"))
        return cls.freshness.judge(step)


def inputs_of(rule):
    """Return an input function for a rule: the files its step reads; a stale one is forced.

    Packed data that are made again are an ordinary input of what is fresh but for them. Snakemake
    plans it, and asks again once they are packed: pack_dataset is a checkpoint for this alone.
    """

    def inputs(wildcards):
        step = getattr(STEPS, rule)(**wildcards)
        keep_going()
        made_again = pending = ()
        if workflow.is_main_process:
            try:
                verdict = Judge.judge(step)
            except StudyError as error:
                # An exception would come out framed by Snakemake's own words.
                print(f"\n{error}\n", file=sys.stderr)
                sys.exit(1)
            VERDICTS[step.output] = verdict
            if verdict.is_stale:
                workflow.dag.forcefiles.add(step.output)
            pending = verdict.pending
            if verdict.record and (verdict.is_stale or pending):
                STALE[step.output] = "; ".join(verdict.reasons)
            made_again = {*verdict.stale_inputs, *pending}
        files = {
            name: [
                made.path if made.path in made_again else ancient(made.path)
                for made in made_files
                if not made.is_optional or made.path in made_again or Path(made.path).exists()
            ]
            for name, made_files in step.inputs.items()
            if name != "record"  # no output of Snakemake's, which would delete it when a job fails
        }
        return files | {"pending": list(pending)}

    return unpack(inputs)


def settings_of(rule):
    """Return a params function for a rule: its step's settings as one line of JSON."""
    return lambda wildcards: canonical_json(getattr(STEPS, rule)(**wildcards).settings)


def record_of(rule):
    """Return a params function for a rule: where the record of its step is."""
    return lambda wildcards: getattr(STEPS, rule)(**wildcards).provenance


def input_record_of(rule):
    """Return a params function for a rule: the record of the step that it reads from."""
    return lambda wildcards: getattr(STEPS, rule)(**wildcards).inputs["record"][0].path


def write_config():
    """Leave the resolved configuration where audit finds it, and whoever runs a script by hand."""
    if workflow.is_main_process:
        write_json(Path(RESOLVED_CONFIG), STUDY)


def say_why():
    """Say what is made again and why, in words, and what speaks against this environment."""
    if workflow.is_main_process and not workflow.deployment_settings.deployment_method:
        for difference in not_as_locked():
            print(
                f"\n{difference}; install it, or results will be recorded wrongly", file=sys.stderr
            )
    if workflow.is_main_process and (words := in_words(VERDICTS)):
        print(f"\n{words}", file=sys.stderr)


# A dry run has no hook at its end, where its user looks.
atexit.register(lambda: workflow.dryrun and say_why())
