# What a model is, before it is trained.


rule describe_model:
    input:
        inputs_of("describe_model"),
    output:
        txt="results/models/{dataset}/{model}.txt",
        html=report(
            "results/models/{dataset}/{model}.html",
            caption="../report/model.rst",
            category="Models",
            labels={"dataset": "{dataset}", "model": "{model}"},
        ),
    log:
        "logs/models/{dataset}/{model}.log",
    localrule: True
    conda:
        "../../envs/train.yaml"
    params:
        provenance=record_of("describe_model"),
        settings=settings_of("describe_model"),
    shell:
        "entry describe_model --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --txt {output.txt:q} --html {output.html:q}"
