"""Vision Transformers and CNNs compared: the study's code, which knows nothing of Snakemake.

`config` and `plan` say which runs there are, `data` prepares the images, `models` and `training` make the
runs, `representations` probes them, `results` shows them. `provenance` records what went into each output
and judges whether it is up to date; `audit` does so for all of them. `status` shows a running study.
"""
