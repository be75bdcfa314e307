# How well models stand corrupted images: asked for by `snakemake corruptions` alone. One job per run, from its weights
# and the test images.


rule corrupt_run:
    input:
        weights=rules.train.output.weights,
        data=rules.pack_dataset.output.manifest,
    output:
        json=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/corruptions.json"
        ),
        provenance=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/corruptions.provenance.json"
        ),
    log:
        "logs/corruptions/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
        training_slots=1,
    params:
        command=command("corrupt_run"),
        settings=settings(lambda w: {"spec": plan.run_spec(STUDY, run_of(w))}),
        data=subpath(input.data, parent=True),
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --data {params.data:q} --weights {input.weights:q} --out {output.json:q} --device {params.device}"
        " --threads {params.torch_threads} --jobs-per-gpu {params.jobs_per_gpu}"


rule tabulate_corruptions:
    input:
        corrupted=of_corrupted,
    output:
        csv=update("results/tables/corruptions.csv"),
        differences=update("results/tables/corruptions_differences.csv"),
        md=update("results/tables/corruptions.md"),
        html=report(
            update("results/tables/corruptions.html"),
            caption="../report/corruptions.rst",
            category="Results",
            labels={"result": "corruptions", "kind": "table"},
        ),
        provenance=update("results/tables/corruptions.provenance.json"),
    log:
        "logs/tables/corruptions.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("tabulate_corruptions"),
        settings=settings(tabulating_corruptions),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --corrupted {input.corrupted:q} --csv {output.csv:q} --differences {output.differences:q}"
        " --md {output.md:q} --html {output.html:q}"
