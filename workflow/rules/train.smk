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
    params:
        runs=lambda wildcards: plan.size_limits_text(STUDY, wildcards.dataset),
    shell:
        "entry check_sizes --log {log:q} --manifest {input:q} --asked {params.runs:q}"


rule train:
    input:
        manifest="resources/{dataset}/packed/manifest.json",
        # Only waited for: that more sizes were checked makes no run stale.
        checked=ancient("resources/{dataset}/packed/sizes_checked"),
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
