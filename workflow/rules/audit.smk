# What is there, held against what would be now. It makes nothing, and fails if not all is fresh.


rule audit:
    log:
        "logs/audit.log",
    localrule: True
    conda:
        "../../envs/results.yaml"
    params:
        config=RESOLVED_CONFIG,
    shell:
        "entry audit --log {log:q} --configfile {params.config:q}"
