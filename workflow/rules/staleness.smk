# What is made again. Left to itself Snakemake goes by the times of files and by notes in .snakemake:
# it misses edits of imported modules, and reruns all after a copy. Here the record beside each output
# decides (workflow/vitcnn/provenance): stale outputs are forced, and inputs that are not stale are
# `ancient`, so that their times count for nothing.
import atexit

from vitcnn.files import canonical_json, write_json
from vitcnn.provenance.freshness import Freshness, in_words
from vitcnn.steps import Steps

STEPS = Steps(STUDY)
RESOLVED_CONFIG = "logs/config.json"  # of the last invocation, for audit and for what runs by hand
VERDICTS = {}  # by output: why each stale job of this invocation is one


class Judge:
    """Judges all steps, and anew when data have been packed in this invocation."""

    packed = -1
    forced = ()
    freshness = None

    @classmethod
    def judge(cls, step):
        if cls.freshness is None:  # the graph has just been begun
            workflow.dag_settings.rerun_triggers = frozenset()  # what .snakemake remembers
            rules = {rule.name for rule in workflow.dag.forcerules}
            cls.forced = rules | set(workflow.dag.forcefiles)
        if len(checkpoints.created_output) != cls.packed:
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
            made_again = {*verdict.stale_inputs, *pending}
        files = {
            name: [
                made.path if made.path in made_again else ancient(made.path) for made in made_files
            ]
            for name, made_files in step.inputs.items()
        }
        return files | {"pending": list(pending)}

    return unpack(inputs)


def settings_of(rule):
    """Return a params function for a rule: its step's settings as one line of JSON."""
    return lambda wildcards: canonical_json(getattr(STEPS, rule)(**wildcards).settings)


def write_config():
    """Leave the resolved configuration where audit finds it, and whoever runs a script by hand."""
    if workflow.is_main_process:
        write_json(Path(RESOLVED_CONFIG), STUDY)


def say_why():
    """Say what is made again and why, in words."""
    if workflow.is_main_process and (words := in_words(VERDICTS)):
        print(f"\n{words}", file=sys.stderr)


# A dry run has no hook at its end, where its user looks.
atexit.register(lambda: workflow.dryrun and say_why())
