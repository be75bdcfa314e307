"""The state of every output of a study, from the records alone; `.snakemake` is not read."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from vitcnn import plan
from vitcnn.errors import StudyError
from vitcnn.provenance.environment import locked_versions
from vitcnn.provenance.freshness import Job, Verdict, judge
from vitcnn.provenance.record import accept, differences, fingerprint, read_record, to_match, versions_of

RESULTS = Path("results")
MEANINGS = {
    "missing": "not made yet",
    "stale": "would come out differently now",
    "unknown": "not known to belong to this study; never overwritten",
    "unused": "no experiment asks for them; kept until you remove them by name",
    "accepted": "up to date because a change was accepted",
    "up to date": "would come out the same now",
}


def audit(jobs: Sequence[Job], accept_environment: bool) -> dict[str, dict[str, str]]:
    """Return, by state, each output and run folder below the working directory, with the reason in words.

    The states are those of MEANINGS, `jobs` all that the study asks for. Every output is read and
    compared with its digest.
    """
    found: dict[str, dict[str, str]] = {state: {} for state in MEANINGS}
    verdicts = judge(jobs, accept_environment, thorough=True)
    for job in jobs:
        verdict, output = verdicts[job.record], job.outputs[0]
        if verdict.foreign:
            found["unknown"][output] = verdict.foreign
        elif not Path(output).exists():
            if not job.may_be_gone:
                found["missing"][output] = "; ".join(verdict.reasons)
        elif verdict.is_stale:
            made_from = f"is made from {len(verdict.stale_inputs)} file(s) that are not up to date"
            found["stale"][output] = "; ".join(verdict.reasons) or made_from
        elif words := verdict.record.get("accepted"):
            found["accepted"][output] = "; ".join(dict.fromkeys(word["because"] for word in words))
        else:
            found["up to date"][output] = _other_versions(verdict.record)
    for path in sorted(_places_of_records() - {job.record for job in jobs}):
        place, reason = _unused(Path(path))
        found["unknown" if reason else "unused"][place] = reason
    return found


def _other_versions(record: Mapping[str, Any]) -> str:
    """Return which packages an output was computed with at another version than the lock's, "" for none."""
    used = versions_of(record)
    locked = locked_versions(used)
    other = [f"{n} {v} instead of {locked[n]}" for n, v in used.items() if locked.get(n, v) != v]
    return f"computed with {', '.join(other)}" if other else ""


def _places_of_records() -> set[str]:
    """Return each record in `results`, but for partial ones, and where one should be: beside a run's files."""
    found = set()
    for folder, folders, files in chain(os.walk(RESULTS), os.walk(RESULTS / "runs")):
        if folder == str(RESULTS):
            folders[:] = set(folders) - {"partial", "runs"}  # runs may be a link, which is not followed
        found |= {f"{folder}/{name}" for name in files if name.endswith("provenance.json")}
        if files and f"{folder}/".startswith(f"{RESULTS}/runs/"):
            found.add(f"{folder}/provenance.json")
    return found


def accept_changes(
    jobs: Sequence[Job], accept_environment: bool, names: Collection[str], because: str
) -> list[str]:
    """Accept that changes of code or packages leave these outputs as they are; return what was accepted.

    `names` are runs or outputs; "all" stands for every output that such a change made stale, but for those that say how
    many of their runs were accepted, and what is made from them: these are made again. Raises
    StudyError, before any record is written, for a name that is not one, and for an output that is stale
    for another reason: a changed setting or input cannot be accepted.
    """
    verdicts = judge(jobs, accept_environment)
    outputs = {job.outputs[0] for job in jobs}
    asked = [
        name if name in outputs else str(plan.Run.parse(name).folder / "metrics.json")
        for name in ([] if names == ["all"] else names)
    ]
    if absent := [place for place in asked if place not in outputs]:
        raise StudyError(
            f"{absent[0]}: is not of this study, so it cannot be accepted; if the study has a --configfile, name it "
            "here too. No record was changed"
        )
    chosen: dict[str, Job] = {}
    for job in jobs:
        output, verdict = job.outputs[0], verdicts[job.record]
        if (asked and output not in asked) or not (verdict.is_stale and verdict.record):
            continue
        changed = _not_acceptable(job, verdict, chosen)
        if not changed:
            chosen[job.record] = job
        elif asked:
            raise StudyError(f"{output}: cannot be accepted: {changed}. No record was changed")
    for record, job in chosen.items():
        accept(Path(record), because, [file for file in job.inputs if file in chosen])
    return [job.outputs[0] for job in chosen.values()]


def _not_acceptable(job: Job, verdict: Verdict, accepted: Collection[str]) -> str:
    """Return why a stale output cannot be accepted, "" if nothing but code and packages changed."""
    if job.script == "collect_runs" and not job.inputs.keys().isdisjoint(accepted):
        return "it says how many of its runs were accepted, and is made again"
    record = verdict.record
    now = to_match(record, fingerprint(job.script, job.settings))
    other = [path for path in verdict.stale_inputs if job.inputs[path] not in accepted]
    if other:
        return f"{other[0]} is not up to date, and not accepted"
    if record["outputs"] is None or record["settings"] != job.settings:
        return "; ".join(verdict.reasons)
    acceptable = set(differences(record, now))
    return "; ".join(reason for reason in verdict.reasons if reason not in acceptable)


def remove_unused(jobs: Sequence[Job], names: Collection[str]) -> None:
    """Delete runs, with all that was measured of them, or other outputs that no experiment asks for any more.

    Their records go with them. Raises StudyError, before anything is deleted, for a name that is in use or unknown.
    """
    unused = audit(jobs, accept_environment=True)["unused"]
    places = [
        name if name in unused or Path(name).is_file() else str(plan.Run.parse(name).folder) for name in names
    ]
    for place in places:
        if place not in unused:
            raise StudyError(
                f"{place}: is not among the unused results that `snakemake audit` lists. If an experiment asks for it, "
                "take it out of the configuration first; if the study has a --configfile, name it here too. Nothing was "
                "removed"
            )
    records: dict[Path, Mapping[str, Any]] = {}  # all before the first goes, each once
    for path in map(Path, places):
        beside = path.glob("*provenance.json") if path.is_dir() else [_record_beside(path)]
        records |= {record: read_record(record) or {} for record in beside}
    for record, made in records.items():
        for file in (*(made.get("outputs") or ()), record):
            Path(file).unlink(missing_ok=True)
        with suppress(OSError):  # of the first folder that is not empty
            for folder in takewhile(RESULTS.__ne__, record.parents):
                folder.rmdir()


def _record_beside(output: Path) -> Path:
    """Return where the record of an output in `results` is: of its name, or of its folder; a record's is itself."""
    if output.name.endswith("provenance.json"):
        return output
    own = output.with_name(f"{output.stem}.provenance.json")
    return own if own.exists() else output.with_name("provenance.json")


def in_words(found: Mapping[str, Mapping[str, str]]) -> str:
    """Return what audit() found as text: problems first and in full, what is up to date as a number."""
    lines = []
    for state, meaning in MEANINGS.items():
        outputs = found[state]
        if not outputs:
            continue
        lines.append(f"{len(outputs)} {state} ({meaning})")
        together: dict[str, list[str]] = defaultdict(list)
        for output, reason in outputs.items():
            if reason or state != "up to date":
                together[reason].append(output)
        for reason, members in together.items():
            lines += [f"  {output}" for output in members] + ([f"      {reason}"] if reason else [])
    return "\n".join(lines)


def _unused(path: Path) -> tuple[str, str]:
    """Return what an unasked record is of, and "" or why it is not known to belong to the study."""
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
    if outputs and Path(outputs[0]).parent != folder:  # a copy, whose original may be in use
        return place, f"it is the record of {outputs[0]}"
    return (place if is_run or not outputs else outputs[0]), ""
