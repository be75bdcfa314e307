# One job per run. The spec travels on the command line as one line of JSON in a fixed key order: a
# list of values would lose their names, and a swap of two would go unnoticed.


rule check_sizes:
    input:
        "resources/{dataset}/packed/manifest.json",
    output:
        touch("resources/{dataset}/packed/sizes_checked"),
    log:
        "logs/{dataset}/check_sizes.log",
    priority: 10
    localrule: True
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
        # Resources, not params: that other sizes are asked for makes no run stale. Where the data are
        # packed already, they are checked before the first job.
        largest=lambda wildcards: plan.largest_sizes(STUDY, wildcards.dataset)[0],
        largest_beside_hold_out=lambda wildcards: plan.largest_sizes(STUDY, wildcards.dataset)[1],
    shell:
        "entry check_sizes --log {log:q} --manifest {input:q}"
        " --largest {resources.largest} --largest-beside-hold-out {resources.largest_beside_hold_out}"


rule train:
    input:
        manifest="resources/{dataset}/packed/manifest.json",
        checked="resources/{dataset}/packed/sizes_checked",
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
        # What a job may use is no part of what it computes: resources, which make nothing stale. And
        # not {threads}, which Snakemake lowers to --cores: the last digits would follow.
        device=STUDY["device"],
        torch_threads=STUDY["threads"],
    params:
        spec=lambda wildcards: plan.spec_text(STUDY, wildcards_run(wildcards)),
        data=subpath(input.manifest, parent=True),
        folder=subpath(output.metrics, parent=True),
    shell:
        "entry train --log {log:q} --spec {params.spec:q} --data {params.data:q}"
        " --out {params.folder:q} --device {resources.device} --threads {resources.torch_threads}"
