"""Mistakes with profiles that Snakemake lets pass."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitcnn.data.sources import is_generated
from vitcnn.errors import StudyError
from vitcnn.files import read_json


def refuse_absent_profile(arguments: Sequence[str], start: Path, beside: Path) -> None:
    """Raise StudyError if `--workflow-profile` names a profile that is nowhere.

    Snakemake would run without any profile then: the whole study, in the folder `start` that it was
    called from. It looks where its help for the option says: at the path, and in `profiles` of `start`
    and of the folder `beside`, which has the Snakefile.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workflow-profile")
    name = parser.parse_known_args(arguments)[0].workflow_profile
    folders = (start, start / "profiles", beside / "profiles")
    if name in (None, "none") or any((folder / name).exists() for folder in folders):
        return
    there = sorted(path.parent.name for path in (beside / "profiles").glob("*/*.yaml"))
    only = f", only {', '.join(dict.fromkeys(there))}" if there else ""
    raise StudyError(f"--workflow-profile {name}: there is no such profile{only}")


def refuse_real_data(study: Mapping[str, Any], folder: Path) -> None:
    """Raise StudyError if the demo is to run where a study on real images is: it would replace its runs."""
    for name, dataset in study["datasets"].items():
        origin = folder / "resources" / name / "fetched_from.json"
        if is_generated(dataset["source"]) and origin.exists():
            source = read_json(origin)["source"]
            if not is_generated([source]):
                raise StudyError(
                    f"{folder.absolute()}: holds a study of {dataset['title']} from {source}, and the demo "
                    "would replace its runs. Name another folder: --directory FOLDER"
                )
