# What is made again. Left to itself Snakemake goes by the times of files and by notes in .snakemake:
# it misses edits of imported modules, and reruns all after a copy. Here the record beside each output
# decides (workflow/vitcnn/provenance): stale outputs are forced, and inputs are `ancient`, so that
# their times count for nothing.
import atexit

from vitcnn.files import canonical_json
from vitcnn.provenance.freshness import Freshness, in_words
from vitcnn.steps import Steps

STEPS = Steps(STUDY)
VERDICTS = {}  # by output: why each stale job of this invocation is one


class Judge:
    """The freshness of all steps, judged anew when data have been packed in this invocation."""

    packed = 0
    freshness = Freshness(STUDY["accept_environment"])

    @classmethod
    def judge(cls, step):
        workflow.dag_settings.rerun_triggers = frozenset()  # nor what .snakemake remembers
        if len(checkpoints.created_output) != cls.packed:
            cls.packed = len(checkpoints.created_output)
            cls.freshness = Freshness(STUDY["accept_environment"])
            plan.refuse_oversized(STUDY, Path("resources"))
        return cls.freshness.judge(step)


def inputs_of(rule):
    """Return an input function for a rule: the files its step reads; a stale one is forced.

    Packed data that are made again stay an ordinary input of what is fresh but for them. Snakemake
    plans it, and asks again once they are packed: pack_dataset is a checkpoint for this alone.
    """

    def inputs(wildcards):
        step = getattr(STEPS, rule)(**wildcards)
        pending = ()
        if workflow.is_main_process:
            try:
                verdict = Judge.judge(step)
            except StudyError as error:
                raise WorkflowError(str(error)) from None
            VERDICTS[step.output] = verdict
            if verdict.is_stale:
                workflow.dag.forcefiles.add(step.output)
            else:
                pending = verdict.pending
        files = {
            name: [made.path if made.path in pending else ancient(made.path) for made in made_files]
            for name, made_files in step.inputs.items()
        }
        return files | {"pending": list(pending)}

    return unpack(inputs)


def settings_of(rule):
    """Return a params function for a rule: its step's settings as one line of JSON."""
    return lambda wildcards: canonical_json(getattr(STEPS, rule)(**wildcards).settings)


def say_why():
    """Say what is made again and why, in words."""
    if workflow.is_main_process and (words := in_words(VERDICTS)):
        logger.info(f"\n{words}")


# A dry run has no hook at its end, where its user looks.
atexit.register(lambda: workflow.dryrun and say_why())
