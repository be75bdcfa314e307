# A dataset, from its publisher to packed arrays. Each step leaves a small manifest, which is what
# the next one takes as input: Snakemake compares its contents, and cannot look inside a folder.
# While data are being prepared no training starts, so that bad data cost no training.


rule fetch_dataset:
    input:
        local_sources,
    output:
        "resources/{dataset}/fetched.json",
    log:
        "logs/{dataset}/fetch.log",
    priority: 10
    localrule: True
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        sources=lambda wildcards: json.dumps(STUDY["datasets"][wildcards.dataset]["source"]),
        folders=folder_listings,
        downloads="resources/{dataset}/download",
    shell:
        "entry fetch_dataset --log {log:q} --dataset {wildcards.dataset} --sources {params.sources:q}"
        " --downloads {params.downloads:q} --manifest {output:q}"


rule copy_dataset:
    input:
        "resources/{dataset}/fetched.json",
    output:
        "resources/{dataset}/tree/copied.json",
    log:
        "logs/{dataset}/copy.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        layout=dataset_setting("layout"),
        tree=subpath(output[0], parent=True),
    shell:
        "entry copy_dataset --log {log:q} --fetched {input:q} --layout {params.layout} --tree {params.tree:q}"


rule sort_validation:
    input:
        "resources/{dataset}/tree/copied.json",
    output:
        "resources/{dataset}/tree/sorted.json",
    log:
        "logs/{dataset}/sort.log",
    wildcard_constraints:
        dataset=one_of(TINY_IMAGENETS),
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        tree=subpath(output[0], parent=True),
    shell:
        "entry sort_validation --log {log:q} --tree {params.tree:q}"


rule validate_images:
    input:
        tree_manifest,
    output:
        report="resources/{dataset}/validation.json",
        train_images=temp("resources/{dataset}/decoded/train_images.npy"),
        train_labels=temp("resources/{dataset}/decoded/train_labels.npy"),
        test_images=temp("resources/{dataset}/decoded/test_images.npy"),
        test_labels=temp("resources/{dataset}/decoded/test_labels.npy"),
    log:
        "logs/{dataset}/validate.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    threads: 8
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        layout=dataset_setting("layout"),
        tree=subpath(input[0], parent=True),
        decoded=subpath(output.train_images, parent=True),
    shell:
        "entry validate_images --log {log:q} --dataset {wildcards.dataset} --layout {params.layout}"
        " --tree {params.tree:q} --decoded {params.decoded:q} --report {output.report:q} --workers {threads}"


rule pack_dataset:
    input:
        report=rules.validate_images.output.report,
        train_images=rules.validate_images.output.train_images,
        train_labels=rules.validate_images.output.train_labels,
        test_images=rules.validate_images.output.test_images,
        test_labels=rules.validate_images.output.test_labels,
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
    log:
        "logs/{dataset}/pack.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        image_size=dataset_setting("image_size"),
        num_classes=dataset_setting("num_classes"),
        on_damaged=STUDY["on_damaged"],
        decoded=subpath(input.train_images, parent=True),
        packed=subpath(output.manifest, parent=True),
    shell:
        "entry pack_dataset --log {log:q} --report {input.report:q} --decoded {params.decoded:q}"
        " --packed {params.packed:q} --image-size {params.image_size} --num-classes {params.num_classes}"
        " --on-damaged {params.on_damaged}"
