# From the runs to the table, the figures and the findings. `part` is empty, or `partial/` for what
# the finished runs give while others are missing.


rule collect_runs:
    input:
        inputs_of("collect_runs"),
    output:
        runs="results/collected/{experiment}/runs.csv",
        epochs="results/collected/{experiment}/epochs.csv",
    log:
        "logs/collect/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        provenance=record_of("collect_runs"),
        settings=settings_of("collect_runs"),
    shell:
        "entry collect_runs --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --runs {output.runs:q} --epochs {output.epochs:q}"


rule collect_partial:
    input:
        inputs_of("collect_partial"),
    output:
        runs="results/partial/collected/{experiment}/runs.csv",
        epochs="results/partial/collected/{experiment}/epochs.csv",
    log:
        "logs/partial/collect/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        provenance=record_of("collect_partial"),
        settings=settings_of("collect_partial"),
    shell:
        "entry collect_runs --partial --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --runs {output.runs:q} --epochs {output.epochs:q}"


rule tabulate_comparison:
    input:
        inputs_of("tabulate_comparison"),
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
        provenance=record_of("tabulate_comparison"),
        settings=settings_of("tabulate_comparison"),
    shell:
        "entry tabulate_comparison --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --csv {output.csv:q} --md {output.md:q} --html {output.html:q} --tex {output.tex:q}"


rule draw_figure:
    input:
        inputs_of("draw_figure"),
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
        provenance=record_of("draw_figure"),
        settings=settings_of("draw_figure"),
    shell:
        "entry draw_figure --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --epochs {input.epochs:q} --out {output.svg:q} {output.png:q} {output.pdf:q}"


rule write_findings:
    input:
        inputs_of("write_findings"),
    output:
        text=report(
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
    params:
        provenance=record_of("write_findings"),
        settings=settings_of("write_findings"),
    shell:
        "entry write_findings --log {log:q} --provenance {params.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --representations {input.representations:q} --predictions {input.predictions:q}"
        " --out {output.text:q}"
