"""How many images there are for runs to train on and to predict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitcnn import plan
from vitcnn.data.embedded import SIZES
from vitcnn.data.sources import Source
from vitcnn.files import read_json
from vitcnn.training.schedule import evaluations, images_in, updates_until


def image_passes(config: Mapping[str, Any], run: plan.Run, resources: Path) -> tuple[int, int]:
    """Return how many images a run trains on and how many it predicts, all epochs together.

    Where the dataset's size is not known yet, it is taken to be that of CIFAR, or of Tiny ImageNet in its layout.
    """
    recipe = plan.run_spec(config, run)["recipe"]
    train, held, test = known_images(config, run.dataset, resources) or (
        (100_000, 10_000, 10_000)
        if config["datasets"][run.dataset]["layout"] == "tiny_imagenet"
        else (50_000, 5_000, 10_000)
    )
    held = held if recipe["hold_out"] else 0
    trained = train - held if run.train_size == plan.ALL else int(run.train_size)
    times = evaluations(recipe)
    updates = updates_until(recipe, trained, times)
    return images_in(updates, trained, recipe["batch_size"]), (test + held) * times


def known_images(config: Mapping[str, Any], dataset: str, resources: Path) -> tuple[int, int, int] | None:
    """Return how many training, held-out and test images a packed or an embedded dataset has, else None."""
    manifest = resources / dataset / "packed" / "manifest.json"
    if manifest.exists():
        counts = read_json(manifest)["counts"]
        return counts["train"]["images"], counts["hold_out"]["images"], counts["test"]["images"]
    source = Source.parse(config["datasets"][dataset]["source"][0])
    if source.kind == "embedded":
        made, classes = SIZES[source.location], config["datasets"][dataset]["num_classes"]
        return made.train * classes, made.train * classes // 10, made.test * classes
    return None
