"""Vision Transformers and CNNs compared: the study's code, which knows nothing of Snakemake.

`config`, `plan` and `steps` say what is to be done, `data` prepares the images, `models` and `training`
make the runs, `results` reads them. `provenance` records what each output was made of and
judges whether it is fresh; `audit` does so for all of them. `status` says how far a running study is.
"""
