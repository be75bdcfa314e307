"""Everything that a study has on disk, held against what it would be now; `.snakemake` is not asked."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitcnn import plan
from vitcnn.errors import StudyError
from vitcnn.provenance.freshness import Freshness, Step, own_record
from vitcnn.provenance.record import read_record
from vitcnn.steps import Steps

RESULTS = Path("results")
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
    steps = list(Steps(study).all_steps())
    for step in steps:
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
    known = {Path(step.provenance) for step in steps}
    for path in (*sorted(RESULTS.rglob("*provenance.json")), *(f / "provenance.json" for f in run_folders())):
        if path in known or path.is_relative_to(RESULTS / "partial"):
            continue
        known.add(path)
        place, reason = _orphan(path)
        found["foreign" if reason else "orphaned"][place] = reason
    return found


def run_folders() -> Iterator[Path]:
    """Yield each folder of `results/runs` that holds files, in order."""
    files = (path for path in (RESULTS / "runs").rglob("*") if path.is_file())
    yield from sorted({path.parent for path in files})


def remove_orphans(study: Mapping[str, Any], names: list[str]) -> None:
    """Delete runs, or other outputs, that nobody asks for any more, with their records.

    Raises StudyError, before anything is deleted, for one that is asked for or that is none.
    """
    orphans = audit(study)["orphaned"]
    places = [name if name in orphans else str(plan.Run.parse(name).folder) for name in names]
    for place in places:
        if place not in orphans:
            raise StudyError(f"{place}: is not orphaned, and stays. Nothing was removed")
    for place in places:
        path = Path(place)
        record = path / "provenance.json" if path.is_dir() else record_beside(path)
        for file in (*map(Path, read_record(record)["outputs"] or ()), record):
            file.unlink(missing_ok=True)
        for folder in record.parents:
            if folder == RESULTS or any(folder.iterdir()):
                break
            folder.rmdir()


def record_beside(output: Path) -> Path:
    """Return where the record of an output in `results` is: of its name, or of its folder."""
    own = output.with_name(f"{output.stem}.provenance.json")
    return own if own.exists() else output.with_name("provenance.json")


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


def _orphan(path: Path) -> tuple[str, str]:
    """Return what an unasked record is of, and "" or why it is not known to be ours."""
    folder = path.parent
    is_run = path.name == "provenance.json" and folder.is_relative_to(RESULTS / "runs")
    place = str(folder) if is_run else str(path)
    try:
        record = read_record(path)
    except StudyError as error:
        return place, str(error)
    if record is None:
        return place, "it has no provenance.json"
    outputs = list(record["outputs"] or ())
    if is_run and outputs and str(folder / "metrics.json") not in outputs:
        return place, f"its provenance.json is that of {outputs[0]}"
    return (place if is_run or not outputs else outputs[0]), ""
