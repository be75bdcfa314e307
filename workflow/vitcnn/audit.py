"""Everything that a study has on disk, held against what it would be now; `.snakemake` is not asked."""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitcnn import plan
from vitcnn.errors import StudyError
from vitcnn.provenance.freshness import Freshness, Step, own_record
from vitcnn.provenance.record import read_record
from vitcnn.steps import Steps

RUNS = Path("results/runs")
MEANINGS = {
    "missing": "not made yet",
    "stale": "would come out otherwise now",
    "foreign": "not known to be of this study; nothing is written over them",
    "orphaned": "nobody asks for them any more; kept until you remove them by name",
    "fresh": "as they would come out now",
}


def audit(study: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return, by state, each output and run folder of the working directory with the reason in words.

    The states are those of MEANINGS. Every output is read and compared with its digest.
    """
    found: dict[str, dict[str, str]] = {state: {} for state in MEANINGS}
    freshness = Freshness(study["accept_environment"], thorough=True)
    for step in Steps(study).all_steps():
        try:
            verdict = freshness.judge(step)
        except StudyError as error:
            own = _error_of(step)
            found["foreign" if own else "stale"][step.output] = (
                own or f"is made from what is foreign: {error}"
            )
            continue
        if not Path(step.output).exists():
            if step.output.startswith("results/"):
                found["missing"][step.output] = "; ".join(verdict.reasons)
        elif verdict.is_stale or verdict.pending:
            upstream = ", ".join((*verdict.stale_inputs, *verdict.pending)[:3])
            found["stale"][step.output] = (
                "; ".join(verdict.reasons) or f"is made from {upstream}, which is stale"
            )
        else:
            found["fresh"][step.output] = ""
    asked = {run.folder for run in plan.all_runs(study)}
    for folder in run_folders():
        if folder not in asked:
            reason = _foreign(folder)
            found["foreign" if reason else "orphaned"][str(folder)] = reason
    return found


def run_folders() -> Iterator[Path]:
    """Yield each folder of `results/runs` that holds files, in order."""
    files = (path for path in RUNS.rglob("*") if path.is_file())
    yield from sorted({path.parent for path in files})


def remove_orphans(study: Mapping[str, Any], names: list[str]) -> None:
    """Delete the folders of runs that nobody asks for any more.

    Raises StudyError, before anything is deleted, for one that an experiment asks for or that is none.
    """
    folders = [plan.Run.parse(name).folder for name in names]
    orphans = audit(study)["orphaned"]
    for folder in folders:
        if str(folder) not in orphans:
            raise StudyError(f"{folder}: is no orphaned run, and stays. Nothing was removed")
    for folder in folders:
        shutil.rmtree(folder)
        for parent in folder.parents:
            if parent == RUNS or any(parent.iterdir()):
                break
            parent.rmdir()


def in_words(found: Mapping[str, Mapping[str, str]]) -> str:
    """Return what audit() found: what needs attention first, what is fresh as a number."""
    lines = []
    for state, meaning in MEANINGS.items():
        outputs = found[state]
        if not outputs:
            continue
        lines.append(f"{len(outputs)} {state} ({meaning})")
        together: dict[str, list[str]] = defaultdict(list)
        for output, reason in outputs.items() if state != "fresh" else ():
            together[reason].append(output)
        for reason, members in together.items():
            lines += [f"  {output}" for output in members] + ([f"      {reason}"] if reason else [])
    return "\n".join(lines)


def _error_of(step: Step) -> str:
    """Return what is wrong with a step's own record, or "" if that is in order."""
    try:
        own_record(step)
    except StudyError as error:
        return str(error)
    return ""


def _foreign(folder: Path) -> str:
    """Return why a folder that no experiment asks for is not known to be a run of ours; "" if it is."""
    try:
        record = read_record(folder / "provenance.json")
    except StudyError as error:
        return str(error)
    if record is None:
        return "it has no provenance.json"
    if record["outputs"] and str(folder / "metrics.json") not in record["outputs"]:
        return f"its provenance.json is that of {next(iter(record['outputs']))}"
    return ""
