# A dataset, from its publisher to packed arrays. While data are being prepared no training starts, so
# that bad data cost no training. What a job is about to replace stays until it has: `update`.


rule fetch_dataset:
    output:
        fetched=update("resources/{dataset}/fetched.json"),
        origin=update("resources/{dataset}/fetched_from.json"),
        provenance=update("resources/{dataset}/provenance/fetch_dataset.json"),
    log:
        "logs/{dataset}/fetch.log",
    priority: 20  # what a server refuses is said before anything else starts
    localrule: True
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("fetch_dataset"),
        settings=settings(lambda w: {"dataset": w.dataset, "source": DATASETS[w.dataset]["source"]}),
        downloads="resources/{dataset}/download",
        max_unpacked_gb=STUDY["max_unpacked_gb"],
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --downloads {params.downloads:q} --fetched {output.fetched:q} --origin {output.origin:q}"
        " --max-unpacked-gb {params.max_unpacked_gb}"


rule copy_dataset:
    input:
        fetched=rules.fetch_dataset.output.fetched,
        origin=ancient(rules.fetch_dataset.output.origin),
    output:
        copied=update("resources/{dataset}/tree/copied.json"),
        provenance=update("resources/{dataset}/provenance/copy_dataset.json"),
    log:
        "logs/{dataset}/copy.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("copy_dataset"),
        settings=settings(lambda w: {"layout": DATASETS[w.dataset]["layout"]}),
        max_unpacked_gb=STUDY["max_unpacked_gb"],
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --fetched {input.fetched:q} --origin {input.origin:q} --copied {output.copied:q}"
        " --max-unpacked-gb {params.max_unpacked_gb}"


rule sort_validation:
    input:
        copied=rules.copy_dataset.output.copied,
        record=rules.copy_dataset.output.provenance,
    output:
        sorted=update("resources/{dataset}/tree/sorted.json"),
        provenance=update("resources/{dataset}/provenance/sort_validation.json"),
    log:
        "logs/{dataset}/sort.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("sort_validation"),
        settings=settings(lambda w: {}),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --copied {input.copied:q} --record {input.record:q} --sorted {output.sorted:q}"


rule validate_images:
    input:
        tree=branch(
            is_tiny_imagenet,
            then=rules.sort_validation.output.sorted,
            otherwise=rules.copy_dataset.output.copied,
        ),
        record=branch(
            is_tiny_imagenet,
            then=rules.sort_validation.output.provenance,
            otherwise=rules.copy_dataset.output.provenance,
        ),
    output:
        report=update("resources/{dataset}/validation.json"),
        train_images=temp("resources/{dataset}/decoded/train_images.npy"),
        train_labels=temp("resources/{dataset}/decoded/train_labels.npy"),
        test_images=temp("resources/{dataset}/decoded/test_images.npy"),
        test_labels=temp("resources/{dataset}/decoded/test_labels.npy"),
        provenance=update("resources/{dataset}/provenance/validate_images.json"),
    log:
        "logs/{dataset}/validate.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    threads: 8
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("validate_images"),
        settings=settings(
            lambda w: {
                "dataset": w.dataset,
                "layout": DATASETS[w.dataset]["layout"],
                **reading_settings(DATASETS[w.dataset]),
            }
        ),
        decoded=subpath(output.train_images, parent=True),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --tree {input.tree:q} --record {input.record:q} --decoded {params.decoded:q}"
        " --report {output.report:q} --workers {threads}"


rule pack_dataset:
    input:
        report=rules.validate_images.output.report,
        record=rules.validate_images.output.provenance,
        train_images=ancient(rules.validate_images.output.train_images),
        train_labels=ancient(rules.validate_images.output.train_labels),
        test_images=ancient(rules.validate_images.output.test_images),
        test_labels=ancient(rules.validate_images.output.test_labels),
    output:
        # The arrays lie beside it. They can have gigabytes, and Snakemake would copy an output that
        # is updated; the manifest has their digests.
        manifest=update("resources/{dataset}/packed/manifest.json"),
        provenance=update("resources/{dataset}/provenance/pack_dataset.json"),
    log:
        "logs/{dataset}/pack.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        command=command("pack_dataset"),
        settings=settings(
            lambda w: {
                "image_size": DATASETS[w.dataset]["image_size"],
                "num_classes": DATASETS[w.dataset]["num_classes"],
                "on_damaged": STUDY["on_damaged"],
            }
        ),
        decoded=subpath(input.train_images, parent=True),
        packed=subpath(output.manifest, parent=True),
        asked_sizes=ASKED_SIZES,
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --report {input.report:q} --record {input.record:q} --decoded {params.decoded:q}"
        " --packed {params.packed:q} --asked-sizes {params.asked_sizes:q}"
