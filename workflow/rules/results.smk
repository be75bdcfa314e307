# From the runs to the tables, the figures and the findings. `part` is empty, or `partial/` for what
# the finished runs give while others are missing.


rule collect_runs:
    input:
        metrics=of_runs("results/runs/{run}/metrics.json"),
        runtime=of_runs("results/runs/{run}/runtime.json"),
        records=of_runs("results/runs/{run}/provenance.json"),
        # Where they are, the models are as equal as declared. So it is checked whenever the experiment is asked for.
        equal=ancient(of_equals("results/models/{dataset}/{model}.txt")),
    output:
        runs=update("results/{part}collected/{experiment}/runs.csv"),
        epochs=update("results/{part}collected/{experiment}/epochs.csv"),
        provenance=update("results/{part}collected/{experiment}/provenance.json"),
    log:
        "logs/{part}collect/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("collect_runs"),
        settings=settings(collecting),
        partial=lambda w: "--partial" if w.part else "",
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {output.runs:q} --epochs {output.epochs:q} {params.partial}"


rule tabulate_experiment:
    input:
        runs="results/{part}collected/{experiment}/runs.csv",
    output:
        csv=update("results/{part}tables/{experiment}.csv"),
        md=update("results/{part}tables/{experiment}.md"),
        html=report(
            update("results/{part}tables/{experiment}.html"),
            caption="../report/table.rst",
            category="Results",
            labels={"result": "{experiment}", "kind": "table"},
        ),
        tex=update("results/{part}tables/{experiment}.tex"),
        provenance=update("results/{part}tables/{experiment}.provenance.json"),
    log:
        "logs/{part}tables/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("tabulate_experiment"),
        settings=settings(lambda w: titled(w.experiment)),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --csv {output.csv:q} --md {output.md:q} --html {output.html:q} --tex {output.tex:q}"


rule draw_figure:
    input:
        runs=of_figure("results/{part}collected/{experiment}/runs.csv"),
        epochs=of_figure("results/{part}collected/{experiment}/epochs.csv"),
    output:
        svg=report(
            update("results/{part}figures/{figure}.svg"),
            caption="../report/figure.rst",
            category="Results",
            labels={"result": "{figure}", "kind": "figure"},
        ),
        png=update("results/{part}figures/{figure}.png"),
        pdf=update("results/{part}figures/{figure}.pdf"),
        provenance=update("results/{part}figures/{figure}.provenance.json"),
    log:
        "logs/{part}figures/{figure}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("draw_figure"),
        settings=settings(drawing),
        kind=lambda w: FIGURES[w.figure].kind,  # for the caption
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --epochs {input.epochs:q} --out {output.svg:q} {output.png:q} {output.pdf:q}"


rule analyse_answers:
    input:
        runs="results/collected/{experiment}/runs.csv",
        epochs="results/collected/{experiment}/epochs.csv",
        predictions=of_runs("results/runs/{run}/predictions.npz"),
    output:
        differences=update(
            [
                "results/tables/{experiment}_differences.csv",
                "results/tables/{experiment}_differences.md",
            ]
        ),
        differences_html=report(
            update("results/tables/{experiment}_differences.html"),
            caption="../report/answers.rst",
            category="Results",
            labels={"result": "{experiment}, differences", "kind": "table"},
        ),
        selection=update(
            [
                "results/tables/{experiment}_selection.csv",
                "results/tables/{experiment}_selection.md",
            ]
        ),
        selection_html=report(
            update("results/tables/{experiment}_selection.html"),
            caption="../report/answers.rst",
            category="Results",
            labels={"result": "{experiment}, selection", "kind": "table"},
        ),
        calibration=update(
            [
                "results/tables/{experiment}_calibration.csv",
                "results/tables/{experiment}_calibration.md",
            ]
        ),
        calibration_html=report(
            update("results/tables/{experiment}_calibration.html"),
            caption="../report/answers.rst",
            category="Results",
            labels={"result": "{experiment}, calibration", "kind": "table"},
        ),
        provenance=update("results/tables/{experiment}_differences.provenance.json"),
    log:
        "logs/answers/{experiment}.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("analyse_answers"),
        settings=settings(lambda w: compared(w.experiment)),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --epochs {input.epochs:q} --predictions {input.predictions:q}"
        " --differences {output.differences:q} {output.differences_html:q}"
        " --selection {output.selection:q} {output.selection_html:q}"
        " --calibration {output.calibration:q} {output.calibration_html:q}"


rule write_findings:
    input:
        runs=collect("results/{{part}}collected/{experiment}/runs.csv", experiment=EXPERIMENTS),
        differences=lambda w: (
            []
            if w.part
            else collect("results/tables/{experiment}_differences.csv", experiment=EXPERIMENTS)
        ),
        representations=of_probed("results/runs/{run}/representations.npz"),
        predictions=of_probed("results/runs/{run}/predictions.npz"),
    output:
        md=update("results/{part}findings.md"),
        html=report(
            update("results/{part}findings.html"),
            caption="../report/findings.rst",
            category="Results",
            labels={"result": "findings", "kind": "text"},
        ),
        provenance=update("results/{part}findings.provenance.json"),
    log:
        "logs/{part}write_findings.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("write_findings"),
        settings=settings(finding),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --runs {input.runs:q} --differences {input.differences:q} --representations {input.representations:q}"
        " --predictions {input.predictions:q} --md {output.md:q} --html {output.html:q}"


rule tabulate_flaws:
    input:
        tables=collect(
            [
                "results/collected/{experiment}/runs.csv",
                "results/tables/{experiment}_selection.csv",
                "results/tables/{experiment}_differences.csv",
            ],
            experiment=FLAW_EXPERIMENTS,
        ),
        costs="results/tables/cost.csv" if COST_EXPERIMENTS else [],
        representations=of_probed("results/runs/{run}/representations.npz"),
        predictions=of_probed("results/runs/{run}/predictions.npz"),
    output:
        csv=update("results/tables/flaws.csv"),
        md=update("results/tables/flaws.md"),
        html=report(
            update("results/tables/flaws.html"),
            caption="../report/flaws.rst",
            category="Results",
            labels={"result": "flaws", "kind": "table"},
        ),
        provenance=update("results/tables/flaws.provenance.json"),
    log:
        "logs/tables/flaws.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("tabulate_flaws"),
        settings=settings(tabulating_flaws),
    shell:
        "{params.command} --log {log:q} --provenance {output.provenance:q} --settings {params.settings:q}"
        " --inputs {input.tables:q} --representations {input.representations:q}"
        " --predictions {input.predictions:q} --costs {input.costs:q}"
        " --csv {output.csv:q} --md {output.md:q} --html {output.html:q}"


# Beside a study that may be running here. The configuration goes with the command: its file belongs to
# the invocation that trains.


rule audit:
    log:
        "logs/audit.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        # It reads the rules, so it needs the Python that runs Snakemake.
        python=sys.executable,
        script=WORKFLOW / "scripts/audit.py",
        study=f"@{ASKED_CONFIG}",  # as text it would bury the answer, as Snakemake quotes a command that fails
    shell:
        "{params.python:q} {params.script:q} --log {log:q} --settings {params.study:q}"


rule status:
    log:
        "logs/status.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        command=command("status"),
        study=f"@{ASKED_CONFIG}",
    shell:
        "{params.command} --log {log:q} --settings {params.study:q}"
