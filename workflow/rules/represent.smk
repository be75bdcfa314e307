# What the models learned: one job per run, from its weights and the test images; nothing is trained here.


rule probe_run:
    input:
        inputs_of("probe_run"),
    output:
        arrays="results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/representations.npz",
    log:
        "logs/representations/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
        training_slots=1,
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
    params:
        provenance=record_of("probe_run"),
        settings=settings_of("probe_run"),
        data="resources/{dataset}/packed",
        unless_made=UNLESS_MADE,
    shell:
        "entry probe_run --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --data {params.data:q} --weights {input.weights:q} --out {output.arrays:q} --device {resources.device}"
        " --threads {resources.torch_threads} --jobs-per-gpu {resources.jobs_per_gpu} {params.unless_made}"


rule draw_representation:
    input:
        inputs_of("draw_representation"),
    output:
        svg=report(
            "results/figures/{figure}.svg",
            caption="../report/representation.rst",
            category="Results",
            subcategory="What the models learned",
            labels={"result": "{figure}", "kind": "figure"},
        ),
        png="results/figures/{figure}.png",
        pdf="results/figures/{figure}.pdf",
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure=one_of(PROBED_FIGURES),
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        provenance=record_of("draw_representation"),
        settings=settings_of("draw_representation"),
    shell:
        "entry draw_representation --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --representations {input.representations:q} --predictions {input.predictions:q}"
        " --out {output.svg:q} {output.png:q} {output.pdf:q}"
