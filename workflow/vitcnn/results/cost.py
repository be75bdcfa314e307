"""What models cost, as a table: counted sizes, and what was measured of each by itself on its device."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vitcnn.errors import StudyError
from vitcnn.files import read_json

_COUNTED = ("parameters", "flops", "backward_flops", "bytes_on_disk")


def read_costs(paths: Sequence[Path], titles: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return a row for each file of measure_cost, in their order, in full precision.

    `titles` are those of `datasets` and `models`, by name. The columns of forward passes end in their batch size:
    `seconds_32` is the median, `seconds_32_q1` and `_q3` are the quartiles. Raises StudyError where there is no file.
    """
    if not paths:
        raise StudyError("cost.experiments: none of them is switched on; name one that is")
    return pd.DataFrame([_row(read_json(path), titles) for path in paths])


def _row(cost: Mapping[str, Any], titles: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    dataset, model = (cost["spec"][key]["name"] for key in ("dataset", "model"))
    row = {
        "dataset": dataset,
        "model": model,
        "dataset_title": titles["datasets"][dataset],
        "model_title": titles["models"][model],
        **{name: cost[name] for name in _COUNTED},
    }
    for measured in cost["passes"]:
        batch = measured["batch"]
        row |= {
            f"seconds_{batch}": measured["median_seconds"],
            f"seconds_{batch}_q1": measured["quartiles_seconds"][0],
            f"seconds_{batch}_q3": measured["quartiles_seconds"][1],
            f"repetitions_{batch}": measured["repetitions"],
            f"images_per_second_{batch}": measured["images_per_second"],
        }
    return row | {
        "training_batch": cost["training"]["batch"],
        "training_memory_bytes": cost["training"]["peak_memory_bytes"],
        "joules_per_image": cost["joules_per_image"],
        "device": cost["device"]["name"],
        "threads": cost["threads"],
        "precision": cost["precision"],
        "torch": cost["torch"],
    }


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text, a dash where there is nothing; without energy where no row has one."""
    batches = [name.removeprefix("repetitions_") for name in table if name.startswith("repetitions_")]

    def cells(column: str, scale: float, decimals: int) -> list[str]:
        return ["–" if pd.isna(value) else f"{value * scale:,.{decimals}f}" for value in table[column]]

    def ranges(batch: str) -> list[str]:
        times = 1e3 * table[[f"seconds_{batch}{end}" for end in ("", "_q1", "_q3")]]
        return [
            "–" if row.isna().any() else "{} ({}–{})".format(*map(_shown, row)) for _, row in times.iterrows()
        ]

    shown = {
        "Model": table["model_title"],
        "Dataset": table["dataset_title"],
        "Parameters (M)": cells("parameters", 1e-6, 2),
        "MFLOP forward": cells("flops", 1e-6, 1),
        "MFLOP backward": cells("backward_flops", 1e-6, 1),
        "Disk (MB)": cells("bytes_on_disk", 1e-6, 2),
        **{f"ms, batch {batch}": ranges(batch) for batch in batches},
        **{f"img/s, batch {batch}": cells(f"images_per_second_{batch}", 1, 0) for batch in batches[-1:]},
        "Training memory (MB)": cells("training_memory_bytes", 1e-6, 0),
        "Energy (mJ/img)": cells("joules_per_image", 1e3, 2),
    }
    if table["joules_per_image"].isna().all():
        del shown["Energy (mJ/img)"]
    return pd.DataFrame(shown)


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:,.2f}" if milliseconds < 100 else f"{milliseconds:,.0f}"


def note(table: pd.DataFrame) -> str:
    """Return what a reader must know beside the table: what was counted, what was measured, and where."""
    devices = sorted(
        {
            f"{r.device}, {r.threads} thread{'s' * (r.threads > 1)}, {r.precision}, torch {r.torch}"
            for r in table.itertuples()
        }
    )
    batches = " or ".join(str(batch) for batch in sorted(set(table["training_batch"])))
    absent = "" if table["joules_per_image"].notna().any() else " No counter of energy could be read here."
    return (
        "FLOPs are those of matrix products and convolutions for one image, 2 for each multiply-add. Times are of "
        "forward passes in evaluation mode on images that are on the device, each waited for: the median, and in "
        "brackets the quartiles; images per second are the batch size over the median. Weights are as initialised, "
        f"which changes none of it. Training memory is the peak of steps with Adam and {batches} images. Energy is "
        f"what the device's own counter says, idling included.{absent} Measured on {'; '.join(devices)}, "
        "each by a job beside which no other of this workflow's invocation ran; other programs may have."
    )
