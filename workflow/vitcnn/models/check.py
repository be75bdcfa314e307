"""Whether a model can be built and trained as configured, before anything is trained."""

from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor, nn

from vitcnn.errors import StudyError
from vitcnn.models import create_model
from vitcnn.models.registry import FOLDER


def check_model(spec: Mapping[str, Any]) -> None:
    """Build a spec's model and pass two images through it, on the meta device, where nothing is computed.

    Raises StudyError, with the builder's own words, if that fails or the result is not a tensor of logits.
    """
    names, dataset = spec["model"], spec["dataset"]
    size, classes = dataset["image_size"], dataset["num_classes"]
    failing = "cannot be built as configured"
    try:
        model = create_on_meta(spec).train()
        failing = "was built and fails on two images"
        logits = model(torch.empty(2, 3, size, size, device="meta"))
    except StudyError:
        raise
    except Exception as error:  # whatever the builder, which may be another library's, says no with
        frames = [f for f in extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(FOLDER)]
        at = "".join(
            f", {Path(f.filename).name}, line {f.lineno}" for f in frames[-1:] if f.filename != __file__
        )
        raise StudyError(
            f"models.{names['name']}: {names['builder']} {failing}, for {dataset['name']}, {size} x {size} pixels"
            f"{at}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise StudyError(
            f"models.{names['name']}: {names['builder']} returns {shape} for two images in training, not "
            f"logits of shape (2, {classes}); a model with further outputs may have a setting against them, "
            "such as aux_logits: false"
        )


def check_last_batch(spec: Mapping[str, Any], images: int) -> None:
    """Raise StudyError if an epoch of so many images ends with a batch of one, which the model cannot train on.

    A batch norm cannot where it sees one number a channel, as behind the last layers of a ResNet on small images.
    """
    size, batch_size = spec["dataset"]["image_size"], spec["recipe"]["batch_size"]
    if images % batch_size != 1 and batch_size > 1:
        return
    try:
        create_on_meta(spec).train()(torch.empty(1, 3, size, size, device="meta"))
    except ValueError as error:
        raise StudyError(
            f"recipes.{spec['recipe']['name']}.batch_size: {batch_size} leaves a last batch of one of the {images:,} "
            f"images, and the model {spec['model']['name']} cannot be trained on one ({error}); choose another"
        ) from error


def create_on_meta(spec: Mapping[str, Any]) -> nn.Module:
    """Return the model of a spec on torch's meta device: shapes are computed, numbers are not."""
    try:
        with torch.device("meta"):
            return create_model(spec)
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):
            raise
        return create_model(spec).to("meta")  # a builder that computes with tensors, such as regnet's
