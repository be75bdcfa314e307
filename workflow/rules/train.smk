# One job per run. The spec travels on the command line as one line of JSON in a fixed key order: a
# list of values would lose their names, and a swap of two would go unnoticed.


rule check_sizes:
    input:
        "resources/{dataset}/packed/manifest.json",
    output:
        touch("resources/{dataset}/packed/sizes_checked"),
    params:
        runs=lambda wildcards: plan.size_limits_text(STUDY, wildcards.dataset),
    log:
        "logs/{dataset}/check_sizes.log",
    conda:
        "../../envs/data.yaml"
    localrule: True
    priority: 10
    shell:
        "{entry[check_sizes]} --log {log:q} --manifest {input:q} --asked {params.runs:q}"


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
    params:
        spec=lambda wildcards: plan.spec_text(STUDY, wildcards_run(wildcards)),
    log:
        "logs/runs/{dataset}/{model}/{recipe}/n{train_size}/seed{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: STUDY["threads"]
    resources:
        gpu=int(has_gpu(STUDY["device"])),
    shell:
        # Not {threads}: Snakemake lowers it to --cores, and the results would follow.
        "{entry[train]} --log {log:q} --spec {params.spec:q} --data $(dirname {input.manifest:q})"
        " --out $(dirname {output.metrics:q}) --device {STUDY[device]} --threads {STUDY[threads]}"
