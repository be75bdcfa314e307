# What the models learned: one job per run, from its weights and the test images; nothing is trained here.


rule probe_run:
    input:
        weights=rules.train.output.weights,
        data=rules.pack_dataset.output.manifest,
    output:
        arrays=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/representations.npz"
        ),
        provenance=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/representations.provenance.json"
        ),
    log:
        "logs/representations/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
        training_slots=1,
    params:
        command=command("probe_run"),
        settings=settings(probing),
        data=subpath(input.data, parent=True),
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --data {params.data:q} --weights {input.weights:q} --out {output.arrays:q} --device {params.device}"
        " --threads {params.torch_threads} --jobs-per-gpu {params.jobs_per_gpu}"


rule draw_representation:
    input:
        representations=of_probed("results/runs/{run}/representations.npz"),
        predictions=of_probed("results/runs/{run}/predictions.npz"),
    output:
        svg=report(
            update("results/figures/{figure}.svg"),
            caption="../report/representation.rst",
            category="Results",
            subcategory="What the models learned",
            labels={"result": "{figure}", "kind": "figure"},
        ),
        png=update("results/figures/{figure}.png"),
        pdf=update("results/figures/{figure}.pdf"),
        provenance=update("results/figures/{figure}.provenance.json"),
    log:
        "logs/figures/{figure}.log",
    wildcard_constraints:
        figure=one_of(PROBED_FIGURES),
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("draw_representation"),
        settings=settings(drawing_representation),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --representations {input.representations:q} --predictions {input.predictions:q}"
        " --out {output.svg:q} {output.png:q} {output.pdf:q}"
