# One job per run.


rule train:
    input:
        inputs_of("train"),
    output:
        metrics="results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/metrics.json",
        runtime="results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/runtime.json",
        weights="results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/model.safetensors",
        predictions="results/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}/predictions.npz",
    log:
        "logs/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
        training_slots=1,
        # What a job may use is no part of what it computes. And not {threads}, which Snakemake lowers
        # to --cores: the last digits would follow.
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
        jobs_per_gpu=STUDY["jobs_per_gpu"],
    params:
        provenance=record_of("train"),
        settings=settings_of("train"),
        data="resources/{dataset}/packed",
        folder=subpath(output.metrics, parent=True),
        unless_made=UNLESS_MADE,
    shell:
        "entry train --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --data {params.data:q} --out {params.folder:q} --device {resources.device}"
        " --threads {resources.torch_threads} --jobs-per-gpu {resources.jobs_per_gpu} {params.unless_made}"
