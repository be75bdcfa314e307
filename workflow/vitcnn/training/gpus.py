"""A GPU for each job: several jobs of one machine take different ones.

Snakemake counts GPUs but does not say which one a job has. Here a slot of a GPU is a lock that the
kernel frees when the job is gone, however it went.
"""

import logging
import os
import tempfile
import time
from pathlib import Path

from filelock import FileLock

from vitcnn.locks import hold, scheduler_job
from vitcnn.training.devices import HIDDEN

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use: of CUDA_VISIBLE_DEVICES, or all."""
    if VISIBLE in os.environ:
        named = os.environ[VISIBLE].replace(" ", "").split(",")
        # As CUDA reads it: what follows an invalid entry is invisible too.
        end = next((place for place, name in enumerate(named) if name in HIDDEN), len(named))
        return named[:end]
    # CUDA counts those that it sees, whatever the numbers of their files in a container.
    return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def take_device(name: str, jobs_per_gpu: int = 1) -> tuple[str, FileLock | None]:
    """Return the device that a job has to use, and the lock of its slot if it took a GPU, as take_gpu() does.

    "auto" becomes "cuda" where a GPU was taken or is assigned: a job that holds one does not train on the CPU.
    """
    if name not in ("auto", "cuda"):
        if job := scheduler_job():
            log.info("%s, in job %s", name, job)
        return name, None
    slot = take_gpu(jobs_per_gpu)
    return "cuda" if visible_gpus() else name, slot


def take_gpu(jobs_per_gpu: int = 1) -> FileLock | None:
    """Wait for a free slot of a GPU, let this process see that GPU alone, and return the slot's lock.

    The lock is kept until the process ends. None where there is no GPU, or a scheduler has assigned one.
    To be called before torch looks for CUDA.
    """
    gpus = visible_gpus()
    job = scheduler_job()
    if not gpus:
        return None
    if job and len(gpus) == 1:
        log.info("GPU %s, assigned to job %s", gpus[0], job)
        return None
    # Under a scheduler the same numbers may be other devices in another job.
    folder = Path(tempfile.gettempdir(), f"vitcnn-gpus-{os.getuid()}{f'-{job}' if job else ''}")
    waited = False
    while True:
        for slot in range(jobs_per_gpu):
            for gpu in gpus:
                if lock := hold(folder / f"{gpu.replace('/', '_')}.{slot}"):
                    os.environ[VISIBLE] = gpu
                    log.info("GPU %s", gpu)
                    return lock
        if not waited:
            log.info("waits for one of the GPUs %s", ", ".join(gpus))
            waited = True
        time.sleep(0.2)
