# How far the study is, beside one that runs. The configuration goes with the command: its file belongs
# to the invocation that trains.


rule status:
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        study=canonical_json(STUDY),
    shell:
        "entry status --settings {params.study:q}"
