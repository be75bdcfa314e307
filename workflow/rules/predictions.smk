# What readers predicted: sealed beside whatever runs here, and scored against the runs.


rule seal:
    log:
        "logs/seal.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("seal"),
        settings=settings(lambda w: predictions.askable(STUDY)),
    shell:
        "{params.command} --log {log:q} --settings {params.settings:q}"


rule score_predictions:
    input:
        runs=collect("results/collected/{experiment}/runs.csv", experiment=PREDICTED_EXPERIMENTS),
        differences=collect(
            "results/tables/{experiment}_differences.csv", experiment=PREDICTED_EXPERIMENTS
        ),
        predictions=PREDICTED,
        seals=predictions.SEALS if PREDICTED else [],
    output:
        md=update("results/predictions.md"),
        html=report(
            update("results/predictions.html"),
            caption="../report/predictions.rst",
            category="Results",
            labels={"result": "predictions", "kind": "text"},
        ),
        provenance=update("results/predictions.provenance.json"),
    log:
        "logs/score_predictions.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("score_predictions"),
        settings=settings(scoring),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --differences {input.differences:q} --predictions {input.predictions:q}"
        " --seals {input.seals:q} --md {output.md:q} --html {output.html:q}"
