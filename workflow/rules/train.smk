# A model before it is trained, and one training job per run.


rule describe_model:
    output:
        txt=update("results/models/{dataset}/{model}.txt"),
        html=report(
            update("results/models/{dataset}/{model}.html"),
            caption="../report/model.rst",
            category="Models",
            labels={"dataset": "{dataset}", "model": "{model}"},
        ),
        provenance=update("results/models/{dataset}/{model}.provenance.json"),
    log:
        "logs/models/{dataset}/{model}.log",
    # A model that cannot be built, or is not equal to another as declared, is an error before any training.
    priority: 10
    localrule: True
    conda:
        "../../envs/train.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("describe_model"),
        settings=settings(describing),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --txt {output.txt:q} --html {output.html:q}"


rule train:
    input:
        data=rules.pack_dataset.output.manifest,
    output:
        metrics=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/metrics.json"
        ),
        runtime=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/runtime.json"
        ),
        weights=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/model.safetensors"
        ),
        predictions=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/predictions.npz"
        ),
        provenance=update(
            "results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/provenance.json"
        ),
    log:
        "logs/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
        training_slots=1,
    params:
        command=command("train"),
        settings=settings(lambda w: {"spec": plan.run_spec(STUDY, run_of(w))}),
        data=subpath(input.data, parent=True),
        folder=subpath(output.metrics, parent=True),
        device=STUDY["device"],
        # Not {threads}, which Snakemake lowers to --cores: the last digits would follow.
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
        graphs=STUDY["graphs"] or "off",
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --data {params.data:q} --out {params.folder:q} --device {params.device}"
        " --threads {params.torch_threads} --jobs-per-gpu {params.jobs_per_gpu} --graphs {params.graphs}"
