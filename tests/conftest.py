"""Small datasets in the publishers' layouts, and ways to run the workflow in a folder of its own."""

import os

# Of NumPy and torch, here and in what tests start: pytest's workers share the cores.
os.environ["OMP_NUM_THREADS"] = "1"

import ast
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from warm import Warm

from vitcnn.config import check_config
from vitcnn.config import extended as merge
from vitcnn.data import embedded, trees
from vitcnn.data.pack import pack_dataset
from vitcnn.data.validate import validate_images
from vitcnn.files import write_json

ROOT = Path(__file__).parents[1]
RAW = yaml.safe_load((ROOT / "config.yaml").read_text())  # as it is written, unchecked; not to be changed
WNIDS = ("n00000003", "n00000001", "n00000002")


def jpeg(seed: int, size: int = 64, mode: str = "RGB") -> bytes:
    """Return a JPEG file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A Tiny ImageNet tree as published, of 3 classes with 4 training and 2 validation images each."""
    root = tmp_path / "published" / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (root / "words.txt").write_text("".join(f"{wnid}\tthing {wnid[-1]}\n" for wnid in (*WNIDS, "n99999999")))
    for number, wnid in enumerate(WNIDS):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(4):
            (images / f"{wnid}_{i}.JPEG").write_bytes(jpeg(10 * number + i))
    lines = []
    for i, wnid in enumerate(sorted(WNIDS) * 2):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(jpeg(100 + i))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="session")
def default_config() -> dict:
    """The repository's config.yaml, checked; not to be changed."""
    return check_config(RAW)


# The experiments that no notebook has, switched off.
NO_OTHERS = dict.fromkeys(RAW["experiments"].keys() - {"comparison", "curves", "data_efficiency"})

# A study of a minute: the embedded CIFAR-10, small models, one epoch.
SMALL = {
    "seeds": [0, 1],
    "datasets": {
        "cifar10": {"source": ["embedded:cifar10"]},
        "cifar100": {"source": ["embedded:cifar100"]},
        "imagenet200": {"source": ["embedded:imagenet200"]},
    },
    "models": {
        "vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
        "cnn": {"channels": [16], "blocks": [1]},
        "simple_vit": {"embed_dim": 16, "depth": 1, "num_heads": 2},
        "simple_cnn": {"channels": [8], "hidden": 16},
    },
    "recipes": {name: {"epochs": 2, "batch_size": 100} for name in ("adam10", "adamw20", "adamw10")},
    "experiments": {
        "comparison": {"datasets": ["cifar10"]},
        "curves": {"datasets": ["cifar10"]},
        "data_efficiency": {"train_sizes": [100, 500], "seeds": [0]},
        **NO_OTHERS,
    },
    "representations": None,
    "flaws": None,
    "cost": None,
}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The embedded CIFAR-10, packed: 1,000 training and 400 test images."""

    def make(folder: Path) -> None:
        trees.copy_tree(embedded.generate("cifar10", folder), "cifar10", folder / "tree")
        report = validate_images("cifar10", "cifar10", folder / "tree", folder / "decoded", 1)
        write_json(folder / "validation.json", report)
        paths = (folder / name for name in ("validation.json", "decoded", "packed"))
        pack_dataset(*paths, on_damaged="error", image_size=32, num_classes=10)

    return made_once(tmp_path_factory, "data", make) / "packed"


WARM = Warm()


def snakemake(
    folder: Path, *arguments: str, config: dict | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run the workflow in `folder` with SMALL, changed by `config`, and return what it printed."""
    command = snakemake_command(folder, *arguments, config=config)
    return WARM.run(["snakemake", *command], folder, environment(env))


def snakemake_command(folder: Path, *arguments: str, config: dict | None = None) -> list[str]:
    """Make `folder`, write its configuration, and return Snakemake's arguments to run the workflow there."""
    folder.mkdir(parents=True, exist_ok=True)
    configfile = folder / "config.yaml"
    configfile.write_text(yaml.safe_dump(merge(SMALL, config or {}), sort_keys=False))
    command = ["--snakefile", str(ROOT / "Snakefile"), "--workflow-profile", "none", "--cores", "2"]
    return [*command, "--directory", str(folder), *arguments, "--configfile", str(configfile)]


def start_snakemake(*arguments: str | Path, cwd: Path, out: Path) -> subprocess.Popen:
    """Start Snakemake in a process group of its own; what it prints is added to the file `out`."""
    command = [sys.executable, "-m", "snakemake", *map(str, arguments)]
    with out.open("a") as file:
        return subprocess.Popen(
            command, cwd=cwd, stdout=file, stderr=file, start_new_session=True, env=environment()
        )


def said(done: subprocess.CompletedProcess) -> str:
    """Return what a process printed."""
    return done.stdout + done.stderr


def run_script(name: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a script of workflow/scripts in `cwd`, and return what it printed."""
    script = ROOT / f"workflow/scripts/{name}.py"
    return WARM.run([str(part) for part in (script, *arguments)], cwd, environment())


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of what tests start."""
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | (more or {})


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name`, made by the first of pytest's workers that asks for it; the others wait."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, finished = base / name, base / f"{name} is made"
    with FileLock(base / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def copy_repository(folder: Path) -> Path:
    """Copy what the workflow consists of to a new folder, and return it."""
    for name in ("workflow", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def jobs(dry_run: subprocess.CompletedProcess) -> dict[str, int]:
    """Return how many jobs of each rule a dry run lists."""
    assert dry_run.returncode == 0, said(dry_run)
    _, _, stats = said(dry_run).partition("Job stats:\n")
    counts = {}
    for line in stats.splitlines()[2:]:
        fields = line.split()
        if len(fields) != 2 or fields[0] == "total":
            break
        counts[fields[0]] = int(fields[1])
    return counts


def reword(path: Path) -> None:
    """Change what does nothing in a Python file: its comments, docstrings and formatting."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            node.body[0].value.value = "In other words."
    path.write_text(f"# A remark.\n{ast.unparse(tree)}\n# The end.\n")  # and on as few lines as it takes


def read(path: Path) -> dict:
    """Return a JSON file's content."""
    return json.loads(path.read_text())
