"""The study's figures, one file for each kind.

draw(runs, epochs, settings) returns a matplotlib Figure of the experiments that `settings` names, with
`title`, `band`, the `accuracy` that each experiment quotes, and `looks`, the place of each model in style.LOOKS.
"""
