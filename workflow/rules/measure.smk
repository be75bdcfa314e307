# What a model is, before it is trained.


rule describe_model:
    output:
        report(
            "results/models/{dataset}/{model}.txt",
            caption="../report/model.rst",
            category="Models",
            labels={"dataset": "{dataset}", "model": "{model}"},
        ),
    log:
        "logs/models/{dataset}/{model}.log",
    conda:
        "../../envs/train.yaml"
    params:
        spec=architecture,
        title=architecture_title,
    shell:
        "entry describe_model --log {log:q} --spec {params.spec:q} --title {params.title:q} --out {output:q}"
