# A comparison of Vision Transformers and CNNs, from the download to every table and figure.
#
#   snakemake                                      everything
#   snakemake data | runs | figures                packed data | trained runs | figures
#   snakemake corruptions                          accuracy on corrupted images
#   snakemake comparison                           one experiment, by its name in config.yaml
#   snakemake results/figures/summary.svg          one figure, and what it needs
#   snakemake results/runs/cifar10/vit/adam10/nall/seed0/metrics.json    one run
#   snakemake audit                                which results are up to date, stale, missing, unused or unknown
#   snakemake status                               how far a running study is
#   snakemake seal                                 predictions/*.yaml, by digest and time, to be scored later
#   snakemake partial                              what the finished runs show, gaps marked
#   snakemake --report report.zip                  all results, packed into pages to share
import os
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: Path(workflow.current_basedir) / "config.yaml"


# A profile can change the study, under what the command line says: see profiles/demo.
if PROFILE := os.getenv("VITCNN_PROFILE"):

    configfile: Path(workflow.current_basedir) / "profiles" / PROFILE / "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/invocation.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/represent.smk"
include: "workflow/rules/cost.smk"
include: "workflow/rules/corruptions.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/predictions.smk"


if not str(rules.train.output.metrics).startswith("results/"):
    raise WorkflowError(
        "prefix: is not supported, as records name files from the working directory. Run the study in a "
        "folder of its own, with --directory, or leave prefix: out"
    )


rule data:
    input:
        collect("resources/{dataset}/packed/manifest.json", dataset=plan.datasets_of(RUNS)),


rule runs:
    input:
        collect("results/models/{pair}.txt", pair=PAIRS),
        collect("results/runs/{run}/metrics.json", run=[run.name for run in RUNS]),


rule all:
    default_target: True
    input:
        all_results(),
        rules.runs.input,


rule figures:
    input:
        [file for file in all_results() if file.startswith("results/figures/")],


rule partial:
    input:
        all_results("partial/"),


rule corruptions:
    input:
        collect("results/tables/corruptions.{kind}", kind=TABLE_KINDS),


for experiment in ALL_EXPERIMENTS:

    rule:
        name:
            experiment
        input:
            results_of([experiment]),
            collect(
                "results/models/{dataset}/{model}.txt",
                dataset=STUDY["experiments"][experiment]["datasets"],
                model=STUDY["experiments"][experiment]["models"],
            ),


onstart:
    warn_of_other_versions()
    say_how_long()
    show_progress()


onsuccess:
    hide_progress()
    say_where_to_look()


onerror:
    hide_progress()
    say_what_is_left()
