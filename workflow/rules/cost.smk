# What the models cost: measured by one job for each, which has its device for itself. Nothing is trained here.


rule measure_cost:
    output:
        json=update("results/cost/{dataset}/{model}.json"),
        provenance=update("results/cost/{dataset}/{model}.provenance.json"),
    log:
        "logs/cost/{dataset}/{model}.log",
    conda:
        "../../envs/train.yaml"
    # All cores, slots and places on GPUs of this machine: whatever runs beside it would be in its seconds. On a
    # cluster a job has a device for itself.
    threads: lambda w: workflow.cores if workflow.local_exec else STUDY["threads"]
    resources:
        gpu=lambda w: has_gpu(STUDY["device"]) * (GPU_JOBS if workflow.local_exec else 1),
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("measure_cost"),
        settings=settings(costing),
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --out {output.json:q} --device {params.device} --threads {params.torch_threads}"
        " --jobs-per-gpu {params.jobs_per_gpu}"


rule tabulate_cost:
    input:
        costs=costs(),
    output:
        csv=update("results/tables/cost.csv"),
        md=update("results/tables/cost.md"),
        html=report(
            update("results/tables/cost.html"),
            caption="../report/cost.rst",
            category="Results",
            labels={"result": "cost", "kind": "table"},
        ),
        provenance=update("results/tables/cost.provenance.json"),
    log:
        "logs/tables/cost.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("tabulate_cost"),
        settings=settings(tabulating_cost),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --csv {output.csv:q} --md {output.md:q} --html {output.html:q} --costs {input.costs:q}"


rule draw_cost:
    input:
        costs="results/tables/cost.csv",
        runs=collect("results/collected/{experiment}/runs.csv", experiment=COST_EXPERIMENTS),
    output:
        svg=report(
            update("results/figures/cost.svg"),
            caption="../report/cost.rst",
            category="Results",
            labels={"result": "cost", "kind": "figure"},
        ),
        png=update("results/figures/cost.png"),
        pdf=update("results/figures/cost.pdf"),
        provenance=update("results/figures/cost.provenance.json"),
    log:
        "logs/figures/cost.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("draw_cost"),
        settings=settings(drawing_cost),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --out {output.svg:q} {output.png:q} {output.pdf:q} --costs {input.costs:q} --runs {input.runs:q}"
