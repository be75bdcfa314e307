"""Which device a job trains on, and in which precision.

torch is imported only where a device is used: a Snakefile asks has_gpu() at every parse.
"""

import contextlib
import os
import platform
import re
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcnn.errors import StudyError

if TYPE_CHECKING:
    import torch


# What CUDA_VISIBLE_DEVICES may hold for no device; the last is Slurm's for a job that was assigned none.
HIDDEN = ("", "-1", "NoDevFiles")


def has_gpu(device: str) -> bool:
    """Return whether this machine has the GPU that `device` asks for, judged without torch.

    "auto" takes CUDA or MPS, "cuda" and "mps" that one alone, "cpu" none. An empty
    CUDA_VISIBLE_DEVICES hides CUDA devices, as it does for torch.
    """
    # NVIDIA's driver, Windows' own under WSL, AMD's: each shows a device file.
    driver = any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "dxg", "kfd"))
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "all").split(",")[0]  # what follows a -1 is hidden too
    cuda = driver and first.strip() not in HIDDEN
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
    if name == "cuda" and not available[name] and os.environ.get("CUDA_VISIBLE_DEVICES", "") not in HIDDEN:
        raise StudyError(
            f"device: GPU {os.environ['CUDA_VISIBLE_DEVICES']} is assigned to this job, but torch sees no CUDA device. "
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda or '(none)'}; the driver is "
            f"{_driver_version()}. Install what fits the driver, let the job see its GPU, or set device: cpu"
        )
    if not available[name]:
        there = ", ".join(candidate for candidate, is_there in available.items() if is_there)
        raise StudyError(
            f"device: {name} is not available here; there is {there}. Set device: auto to take it"
        )
    if name == "cuda":
        refuse_without_kernels(
            torch.cuda.get_device_name(), torch.cuda.get_device_capability(), torch.cuda.get_arch_list()
        )
    return torch.device(name)


def refuse_without_kernels(name: str, capability: tuple[int, int], built_for: Sequence[str]) -> None:
    """Raise StudyError for a GPU that torch has no kernels for.

    `built_for` are torch's architectures: a binary, sm_80, runs on GPUs of the same major version and no
    lower minor one; of a compute_90 any GPU from 9.0 on makes its own. See CUDA's programming guide.
    """
    major, minor = capability
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", arch) for arch in built_for]
    versions = [(match[1], int(match[2]), int(match[3])) for match in found if match]
    if not versions or any(
        (kind == "sm" and (own, least <= minor) == (major, True))
        or (kind == "compute" and (own, least) <= (major, minor))
        for kind, own, least in versions
    ):
        return
    raise StudyError(
        f"device: {name} (sm_{major}{minor}) is not among the GPUs that this torch has kernels for: "
        f"{', '.join(built_for)}. Install a torch that has, or set device: cpu"
    )


def identify(device: "torch.device") -> list[Any]:
    """Return what of a device decides the digits of a result: two with the same list compute the same.

    On a GPU its name and number of multiprocessors: kernels are chosen by them, and torch's random masks differ. On a
    CPU its name and the instructions that torch takes: sums are in another order with others.
    """
    import torch

    if device.type != "cuda":
        return [device.type, device_name(device), torch.backends.cpu.get_cpu_capability()]
    properties = torch.cuda.get_device_properties(device)
    return [device.type, properties.name, properties.multi_processor_count]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error says that a GPU's memory is not enough.

    torch's own allocator raises OutOfMemoryError; a context, a library's handle or Apple's allocator raise others.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or bool(
        re.search("(CUDA|MPS).*out of memory|ALLOC_FAILED", str(error))
    )


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes.

    On Linux not getrusage()'s, which is also that of the process that started this one: Snakemake takes a gigabyte for
    a study of many runs.
    """
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
            return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


def synchronize(device: "torch.device") -> None:
    """Wait until a GPU has done what was queued, so that the clock can be read."""
    import torch

    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def select_precision(name: str, device: "torch.device") -> str:
    """Return `fp32`, `bf16` or `fp16` for one of them or `auto`.

    "auto" is bf16 where the hardware multiplies it at a higher rate than fp32: GPUs that support it,
    CPUs with AVX512-BF16 or AMX. It is never fp16, which nobody has shown to train as well on a GPU without
    bf16. Raises StudyError where a GPU does not support the bf16 asked for.
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

    The same seed, device and number of threads give the same bytes then. On GPUs that have TF32, cuDNN rounds
    the factors of convolutions to its 10 bits unless it is told not to, and so does cuBLAS where NVIDIA's images
    set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE. Nothing the models use varies on the CPU.
    """
    import torch

    if device.type == "cpu":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    # The same switch as use_deterministic_algorithms(True, warn_only=True), without importing torch's compiler.
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing reads it, and it costs a pass
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    for fused in (  # whose backward passes add in any order: in warn mode torch lets them
        torch.backends.cuda.enable_flash_sdp,
        torch.backends.cuda.enable_mem_efficient_sdp,
        torch.backends.cuda.enable_cudnn_sdp,
    ):
        fused(False)


def device_name(device: "torch.device") -> str:
    """Return what the device calls itself, for the record."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = _cpu("model name") if device.type == "cpu" else ""
    return name or platform.processor() or platform.machine()


def _driver_version() -> str:
    """Return the version of NVIDIA's kernel driver, in words."""
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", text):
            return found[1]
    return "not loaded"


def _cpu(field: str) -> str:
    """Return what Linux says of the first CPU, or nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == field:
                return value.strip()
    return ""
