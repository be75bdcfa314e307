# What a model is, before it is trained.


rule describe_model:
    input:
        inputs_of("describe_model"),
    output:
        text=report(
            "results/models/{dataset}/{model}.txt",
            caption="../report/model.rst",
            category="Models",
            labels={"dataset": "{dataset}", "model": "{model}"},
        ),
    log:
        "logs/models/{dataset}/{model}.log",
    priority: 10  # what cannot be built is said before anything is trained
    localrule: True
    conda:
        "../../envs/train.yaml"
    resources:
        training_slots=ALL_TRAINING_SLOTS,
    params:
        provenance=record_of("describe_model"),
        settings=settings_of("describe_model"),
    shell:
        "entry describe_model --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --out {output.text:q}"
