# A dataset, from its publisher to packed arrays. While data are being prepared no training starts, so
# that bad data cost no training.


rule fetch_dataset:
    input:
        inputs_of("fetch_dataset"),
    output:
        manifest="resources/{dataset}/fetched.json",
        origin="resources/{dataset}/fetched_from.json",
    log:
        "logs/{dataset}/fetch.log",
    priority: 20  # what a server refuses is said before anything else starts
    localrule: True
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
        # A guard decides no output, so it is no setting.
        max_unpacked_gb=STUDY["max_unpacked_gb"],
    params:
        provenance=record_of("fetch_dataset"),
        settings=settings_of("fetch_dataset"),
        downloads="resources/{dataset}/download",
    shell:
        "entry fetch_dataset --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --downloads {params.downloads:q} --manifest {output.manifest:q} --origin {output.origin:q}"
        " --max-unpacked-gb {resources.max_unpacked_gb}"


rule copy_dataset:
    input:
        inputs_of("copy_dataset"),
        origin=ancient("resources/{dataset}/fetched_from.json"),
    output:
        manifest="resources/{dataset}/tree/copied.json",
    log:
        "logs/{dataset}/copy.log",
    priority: 10
    conda:
        "../../envs/data.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
        max_unpacked_gb=STUDY["max_unpacked_gb"],
    params:
        provenance=record_of("copy_dataset"),
        settings=settings_of("copy_dataset"),
        unless_made=UNLESS_MADE,
    shell:
        "entry copy_dataset --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " {params.unless_made}"
        " --fetched {input.manifest:q} --origin {input.origin:q} --manifest {output.manifest:q}"
        " --max-unpacked-gb {resources.max_unpacked_gb}"


rule sort_validation:
    input:
        inputs_of("sort_validation"),
    output:
        manifest="resources/{dataset}/tree/sorted.json",
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
        provenance=record_of("sort_validation"),
        settings=settings_of("sort_validation"),
        record=input_record_of("sort_validation"),
        unless_made=UNLESS_MADE,
    shell:
        "entry sort_validation --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " {params.unless_made}"
        " --copied {input.manifest:q} --record {params.record:q} --manifest {output.manifest:q}"


rule validate_images:
    input:
        inputs_of("validate_images"),
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
        provenance=record_of("validate_images"),
        settings=settings_of("validate_images"),
        record=input_record_of("validate_images"),
        decoded=subpath(output.train_images, parent=True),
    shell:
        "entry validate_images --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --tree {input.manifest:q} --record {params.record:q} --decoded {params.decoded:q}"
        " --report {output.report:q} --workers {threads}"


# A checkpoint: after it Snakemake asks again which runs there are to do, and those that were trained on
# the same bytes are not among them.
checkpoint pack_dataset:
    input:
        inputs_of("pack_dataset"),
        train_images=ancient(rules.validate_images.output.train_images),
        train_labels=ancient(rules.validate_images.output.train_labels),
        test_images=ancient(rules.validate_images.output.test_images),
        test_labels=ancient(rules.validate_images.output.test_labels),
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
        provenance=record_of("pack_dataset"),
        settings=settings_of("pack_dataset"),
        record=input_record_of("pack_dataset"),
        decoded=subpath(input.train_images, parent=True),
        packed=subpath(output.manifest, parent=True),
        unless_made=UNLESS_MADE,
    shell:
        "entry pack_dataset --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " {params.unless_made}"
        " --report {input.manifest:q} --record {params.record:q} --decoded {params.decoded:q} --packed {params.packed:q}"
