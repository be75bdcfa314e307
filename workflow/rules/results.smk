# From the runs to the table, the figures and the findings. `part` is empty, or `partial/` for what
# the finished runs give while others are missing.


rule collect_runs:
    input:
        metrics=experiment_files("metrics.json"),
        runtime=experiment_files("runtime.json"),
        packed=experiment_data,
    output:
        runs="results/collected/{experiment}/runs.csv",
        epochs="results/collected/{experiment}/epochs.csv",
    log:
        "logs/collect/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        study=lambda wildcards: plan.study_text(STUDY, wildcards.experiment),
    shell:
        "entry collect_runs --log {log:q} --study {params.study:q} --runs {output.runs:q} --epochs {output.epochs:q}"


rule collect_partial:
    output:
        runs="results/partial/collected/{experiment}/runs.csv",
        epochs="results/partial/collected/{experiment}/epochs.csv",
    log:
        "logs/partial/collect/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        study=lambda wildcards: plan.study_text(STUDY, wildcards.experiment),
        finished=finished_runs,
    shell:
        "entry collect_runs --partial --log {log:q} --study {params.study:q}"
        " --runs {output.runs:q} --epochs {output.epochs:q}"


rule tabulate_comparison:
    input:
        "results/{part}collected/comparison/runs.csv",
    output:
        csv="results/{part}tables/comparison.csv",
        md="results/{part}tables/comparison.md",
        html=report(
            "results/{part}tables/comparison.html",
            caption="../report/comparison.rst",
            category="Results",
            labels={"result": "comparison", "kind": "table"},
        ),
        tex="results/{part}tables/comparison.tex",
    log:
        "logs/{part}tabulate_comparison.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        title=STUDY["report"]["titles"]["comparison"],
    shell:
        "entry tabulate_comparison --log {log:q} --runs {input:q} --title {params.title:q}"
        " --csv {output.csv:q} --md {output.md:q} --html {output.html:q} --tex {output.tex:q}"


rule draw_figure:
    input:
        runs=figure_tables("runs"),
        epochs=figure_tables("epochs"),
    output:
        svg=report(
            "results/{part}figures/{figure}.svg",
            caption="../report/figure.rst",
            category="Results",
            labels={"result": "{figure}", "kind": "figure"},
        ),
        png="results/{part}figures/{figure}.png",
        pdf="results/{part}figures/{figure}.pdf",
    log:
        "logs/{part}figures/{figure}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        settings=figure_settings,
    shell:
        "entry draw_figure --log {log:q} --figure {wildcards.figure} --runs {input.runs:q}"
        " --epochs {input.epochs:q} --settings {params.settings:q} --out {output:q}"


rule write_findings:
    input:
        expand("results/{{part}}collected/{experiment}/runs.csv", experiment=EXPERIMENTS),
    output:
        report(
            "results/{part}findings.md",
            caption="../report/findings.rst",
            category="Results",
            labels={"result": "findings", "kind": "text"},
        ),
    log:
        "logs/{part}write_findings.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    shell:
        "entry write_findings --log {log:q} --runs {input:q} --out {output:q}"
