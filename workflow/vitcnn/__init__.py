"""Vision Transformers and CNNs compared: the study's code, which knows nothing of Snakemake.

`config` and `plan` say what is to be done, `data` prepares the images, `models` and `training` make
the runs, `measuring` and `results` read them. Nothing imports from what comes after it.
"""
