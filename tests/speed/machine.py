"""What every benchmark writes beside its figures: the hardware's name, and the versions."""

import os
import platform
from pathlib import Path
from typing import Any


def write_figures(path: Path, figures: dict[str, Any], device: str = "cpu") -> None:
    """Write `figures` as JSON, with the name of the device that they were measured on."""
    import torch  # here, for benchmarks that time its import

    from vitcnn.files import write_json
    from vitcnn.training.devices import device_name, select_device

    hardware = {"device": device_name(select_device(device)), "cores": os.cpu_count()}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    write_json(path, {"hardware": hardware, "versions": versions, **figures})
