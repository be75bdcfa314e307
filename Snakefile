# A comparison of Vision Transformers and CNNs, regenerated from nothing.
#
#   snakemake                                      everything
#   snakemake results/figures/summary.svg          one figure, and what it needs
#   snakemake results/runs/cifar10/vit/adam10/nall/seed0/metrics.json    one run
#   snakemake audit                                what is fresh, stale, missing, orphaned or foreign
#   snakemake partial                              what the finished runs show, gaps marked
#   snakemake --report report.html                 table, figures and findings in one page
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: Path(workflow.basedir) / "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/staleness.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/represent.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/audit.smk"


rule all:
    default_target: True
    input:
        TARGETS,


rule partial:
    input:
        PARTIAL_TARGETS,


onstart:
    refuse_absent_device()
    write_config()
    say_why()
    say_how_long()


onsuccess:
    say_where_to_look()


onerror:
    say_what_is_left()
