# A dataset, from its publisher to packed arrays. Each step leaves a small manifest, which is what
# the next one takes as input: Snakemake compares its contents, and cannot look inside a folder.


rule fetch_dataset:
    input:
        local_sources,
    output:
        "resources/{dataset}/fetched.json",
    params:
        sources=lambda wildcards: json.dumps(STUDY["datasets"][wildcards.dataset]["source"]),
        downloads="resources/{dataset}/download",
    log:
        "logs/{dataset}/fetch.log",
    conda:
        "../../envs/data.yaml"
    localrule: True
    shell:
        "{entry[fetch_dataset]} --log {log:q} --dataset {wildcards.dataset} --sources {params.sources:q}"
        " --downloads {params.downloads:q} --manifest {output:q}"


rule copy_dataset:
    input:
        "resources/{dataset}/fetched.json",
    output:
        "resources/{dataset}/tree/copied.json",
    params:
        layout=dataset_setting("layout"),
        tree=subpath(output[0], parent=True),
    log:
        "logs/{dataset}/copy.log",
    conda:
        "../../envs/data.yaml"
    shell:
        "{entry[copy_dataset]} --log {log:q} --fetched {input:q} --layout {params.layout} --tree {params.tree:q}"


rule sort_validation:
    input:
        "resources/{dataset}/tree/copied.json",
    output:
        "resources/{dataset}/tree/sorted.json",
    params:
        tree=subpath(output[0], parent=True),
    log:
        "logs/{dataset}/sort.log",
    conda:
        "../../envs/data.yaml"
    wildcard_constraints:
        dataset=one_of(TINY_IMAGENETS),
    shell:
        "{entry[sort_validation]} --log {log:q} --tree {params.tree:q}"


rule validate_images:
    input:
        tree_manifest,
    output:
        report="resources/{dataset}/validation.json",
        decoded=temp(
            multiext(
                "resources/{dataset}/decoded/",
                "train_images.npy",
                "train_labels.npy",
                "test_images.npy",
                "test_labels.npy",
            )
        ),
    params:
        layout=dataset_setting("layout"),
        tree=subpath(input[0], parent=True),
        decoded="resources/{dataset}/decoded",
    log:
        "logs/{dataset}/validate.log",
    conda:
        "../../envs/data.yaml"
    threads: 8
    shell:
        "{entry[validate_images]} --log {log:q} --dataset {wildcards.dataset} --layout {params.layout}"
        " --tree {params.tree:q} --decoded {params.decoded:q} --report {output.report:q} --workers {threads}"


rule pack_dataset:
    input:
        report=rules.validate_images.output.report,
        decoded=rules.validate_images.output.decoded,
    output:
        manifest="resources/{dataset}/packed/manifest.json",
        arrays=multiext(
            "resources/{dataset}/packed/",
            "train_images.npy",
            "train_labels.npy",
            "test_images.npy",
            "test_labels.npy",
            "hold_out.npy",
        ),
    params:
        image_size=dataset_setting("image_size"),
        num_classes=dataset_setting("num_classes"),
        on_damaged=STUDY["on_damaged"],
        decoded="resources/{dataset}/decoded",
        packed="resources/{dataset}/packed",
    log:
        "logs/{dataset}/pack.log",
    conda:
        "../../envs/data.yaml"
    shell:
        "{entry[pack_dataset]} --log {log:q} --report {input.report:q} --decoded {params.decoded:q}"
        " --packed {params.packed:q} --image-size {params.image_size} --num-classes {params.num_classes}"
        " --on-damaged {params.on_damaged}"
