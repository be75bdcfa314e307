"""The study's figures, one file each: draw(runs, epochs, settings) returns a matplotlib Figure."""

FIGURES = {  # by the experiments that each needs
    "training_curves": ("curves",),
    "data_efficiency": ("data_efficiency",),
    "summary": ("curves", "data_efficiency"),
}
