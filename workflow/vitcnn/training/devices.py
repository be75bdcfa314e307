"""Which device a job trains on, and in which precision.

torch is imported only where a device is used: a Snakefile asks has_gpu() at every parse.
"""

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from vitcnn.errors import StudyError

if TYPE_CHECKING:
    import torch


def has_gpu(device: str) -> bool:
    """Return whether this machine has the GPU that `device` asks for, judged without torch.

    "auto" takes CUDA or MPS, "cuda" and "mps" that one alone, "cpu" none. An empty
    CUDA_VISIBLE_DEVICES hides CUDA devices, as it does for torch.
    """
    # NVIDIA's driver, Windows' own under WSL, AMD's: each shows a device file.
    driver = any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "dxg", "kfd"))
    cuda = driver and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
    mps = platform.system() == "Darwin" and platform.machine() == "arm64"
    return {"cpu": False, "cuda": cuda, "mps": mps, "auto": cuda or mps}[device]


def select_device(name: str) -> "torch.device":
    """Return the torch device for `auto`, `cpu`, `cuda` or `mps`.

    Raises StudyError, before anything else is done, if the one asked for is not there.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available[name]:
        there = ", ".join(candidate for candidate, is_there in available.items() if is_there)
        raise StudyError(
            f"device: {name} is not available here; there is {there}. Set device: auto to take it"
        )
    return torch.device(name)


def select_precision(name: str, device: "torch.device") -> str:
    """Return `fp32` or `bf16` for `auto`, `fp32` or `bf16`.

    "auto" is bf16 where the hardware multiplies it at a higher rate than fp32: GPUs that support it,
    CPUs with AVX512-BF16 or AMX. Raises StudyError where a GPU does not support the bf16 asked for.
    """
    import torch

    if device.type == "cuda":
        fast = possible = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu("flags").split())
        possible = True
    if name == "bf16" and not possible:
        raise StudyError("precision: bf16 is not supported by this GPU. Set precision: auto")
    return ("bf16" if fast else "fp32") if name == "auto" else name


def use_deterministic_algorithms(device: "torch.device") -> None:
    """Make torch repeat itself, and compute in fp32 what is said to be in fp32.

    The same seed, device and number of threads give the same bytes then. On GPUs that have TF32, cuDNN
    rounds the factors of convolutions to its 10 bits unless it is told not to.

    Nothing the models use varies on the CPU, where the switch only costs the import of torch's
    compiler (3 s).
    """
    import torch

    if device.type == "cpu":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it, and it costs a pass
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False


def device_name(device: "torch.device") -> str:
    """Return what the device calls itself, for the record."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = _cpu("model name") if device.type == "cpu" else ""
    return name or platform.processor() or platform.machine()


def _cpu(field: str) -> str:
    """Return what Linux says of the first CPU, or nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == field:
                return value.strip()
    return ""
