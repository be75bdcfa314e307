"""A run on a machine that has torch, numpy and safetensors, and nothing else: no Snakemake, no yaml."""

import json
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution

import pytest
import yaml
from conftest import ROOT, SMALL, merge, read
from packaging.requirements import Requirement

from vitcnn import plan
from vitcnn.config import check_config

CONFIG = check_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL))


def needed_by(*names):
    """Return the installed distributions of these packages and of all that they need."""
    found, queue = {}, list(names)
    while queue:
        name = queue.pop()
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.name not in found and (
                not requirement.marker or requirement.marker.evaluate({"extra": ""})
            ):
                queue.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The Python of an environment that has just those, as links to what is installed here."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    for there in needed_by("torch", "numpy", "safetensors").values():
        for top in {file.parts[0] for file in there.files} - {".."}:
            if not (packages / top).exists():
                (packages / top).symlink_to(there.locate_file(top))
    return folder / "bin" / "python"


STARTS = """
import json, sys
import numpy as np
import torch
from vitcnn.training.devices import use_deterministic_algorithms
from vitcnn.training.precision import CastWeights
from vitcnn.training.trainer import Images, Trainer

cpu, random = torch.device("cpu"), np.random.default_rng(0)
pixels, labels = random.integers(0, 256, (40, 3, 32, 32), np.uint8), random.integers(0, 10, 40)
images = {name: Images.load(pixels, labels, np.arange(40), cpu) for name in ("train", "test")}
trainer = Trainer(json.loads(sys.argv[1]), images, cpu, "bf16")
use_deterministic_algorithms(torch.device("cuda"))
trainer.casts = CastWeights(trainer.model, torch.zeros(2, 3, 32, 32), "bf16")  # as on a GPU
trainer.warm_up()
trainer.train(1)
trainer.predict("test")
print(*({"torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()))
"""


def test_no_start_imports_the_compiler():
    """It takes two seconds, of each run."""
    spec = plan.run_spec(CONFIG, plan.Run.parse("cifar10/vit/adam10/n200/seed0"))
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    command = [sys.executable, "-c", STARTS, json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_run_needs_torch_numpy_and_safetensors(bare, data, tmp_path):
    listed = subprocess.run([bare, "-c", "import yaml"], capture_output=True, text=True)
    assert "No module named 'yaml'" in listed.stderr
    spec = plan.run_spec(CONFIG, plan.Run.parse("cifar10/vit/adam10/n200/seed0"))
    command = [bare, ROOT / "workflow/scripts/train.py", "--settings", json.dumps({"spec": spec})]
    command += ["--data", data, "--device", "cpu"]
    environment = {k: v for k, v in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV", k)}
    for python, out in ((bare, "bare"), (sys.executable, "full")):
        done = subprocess.run(
            [python, *command[1:], "--out", tmp_path / out], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    for name in ("metrics.json", "model.safetensors", "predictions.npz", "provenance.json"):
        assert (tmp_path / "bare" / name).exists()
    # And what it leaves is what a whole environment leaves.
    assert read(tmp_path / "bare/metrics.json") == read(tmp_path / "full/metrics.json")
    assert (tmp_path / "bare/model.safetensors").read_bytes() == (
        tmp_path / "full/model.safetensors"
    ).read_bytes()
