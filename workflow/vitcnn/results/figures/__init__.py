"""The study's figures, one file for each kind, with a function draw() that returns a matplotlib Figure.

Its arguments are the collected runs and epochs of the experiments that `settings` names, or the probed models, or the
costs and runs; and `settings`, with `title`, `band`, the `accuracy` that each experiment quotes, and `looks`, the place
of each model in style.LOOKS.
"""
