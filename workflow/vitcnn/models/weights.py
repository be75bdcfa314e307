"""The weights of a trained model, from the file that training leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from vitcnn.errors import StudyError
from vitcnn.models import create_model


def load_model(spec: Mapping[str, Any], weights: Path) -> nn.Module:
    """Return the model of a spec with the weights of a file; raises StudyError if it cannot be read or is of another."""
    model = create_model(spec)
    try:
        model.load_state_dict(safetensors.torch.load_file(weights))
    except (OSError, SafetensorError) as error:
        raise StudyError(f"{weights}: cannot be read ({error}); delete it to train the run again") from error
    except RuntimeError as error:
        raise StudyError(
            f"{weights}: are not weights of {spec['model']['name']} as it is configured ({error}); delete the file to "
            "train the run again"
        ) from error
    return model
