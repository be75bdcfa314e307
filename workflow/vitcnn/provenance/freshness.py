"""Whether each output is up to date, and if not, why not, in words.

An output is up to date if its record matches its fingerprint (settings, code, packages) as it is now, and
its inputs are up to date with the same content. File dates do not matter, and nothing is stored anywhere
but beside the outputs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.data.content import content_now
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, read_json
from vitcnn.provenance.record import changed_entries, differences, fingerprint, read_record, to_match

FETCH = "fetch_dataset"
_HASHED = 1 << 20  # bytes; of a larger output only the size is compared, unless `thorough`


class Job(NamedTuple):
    """One job: `script` makes `outputs`, and `temporary` files that are deleted once they are used.

    `record` is the path of their record. `inputs` maps each file whose content counts to the record of the
    job that makes it, "" for none. `producers` are the records of all jobs it reads from.
    """

    script: str
    record: str
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    producers: tuple[str, ...]
    temporary: tuple[str, ...] = ()

    @property
    def may_be_gone(self) -> bool:
        """Whether the outputs may be deleted after use: the records downstream keep their digests."""
        return self.record.startswith("resources/")


class Verdict(NamedTuple):
    """Why a job is stale: `reasons`, in words, or `stale_inputs`, files that are stale themselves.

    `foreign` says why the file at its output's path is not known to belong to this study.
    """

    record: Mapping[str, Any] | None
    reasons: tuple[str, ...] = ()
    stale_inputs: tuple[str, ...] = ()
    foreign: str = ""

    @property
    def is_stale(self) -> bool:
        return bool(self.reasons or self.stale_inputs)


def judge(
    jobs: Sequence[Job],
    accept_environment: bool = False,
    forced: Collection[str] = (),
    wanted: Collection[str] = (),
    thorough: bool = False,
) -> dict[str, Verdict]:
    """Return each job's verdict by its record. `jobs` come after those that they read from.

    With `accept_environment`, other package versions are no reason. `forced` are records of jobs to
    run whatever their record says, `wanted` those whose outputs must be there. With `thorough` every
    output is compared with its digest, however large.
    """
    by_record = {job.record: job for job in jobs}
    own: dict[str, Verdict] = {}
    for job in jobs:
        try:
            record = _own_record(job)
        except StudyError as error:
            own[job.record] = Verdict(None, foreign=str(error))
            continue
        reasons = ["the command line asks for it"] if job.record in forced else []
        reasons += _own_reasons(job, record, accept_environment, job.record in wanted, thorough)
        own[job.record] = Verdict(record, tuple(reasons))
    required: set[str] = set()
    while True:
        verdicts = _with_inputs(jobs, own)
        found = {}
        for job in jobs:
            if verdicts[job.record].is_stale:
                found |= _lost_inputs(job, by_record, verdicts, required)
        if not found:
            return verdicts
        own |= {name: own[name]._replace(reasons=reasons) for name, reasons in found.items()}


def _own_reasons(
    job: Job, record: dict[str, Any] | None, accept_environment: bool, wanted: bool, thorough: bool
) -> Iterator[str]:
    """Yield why a job is stale, whatever its inputs."""
    may_be_gone = job.may_be_gone and not wanted
    if record is None:
        if not may_be_gone:
            yield "not made yet"
        return
    if record["outputs"] is None:
        yield "started and not finished"
        return
    changed = list(_changed_outputs(record["outputs"], thorough))
    yield from changed
    if not may_be_gone:
        yield from (f"{path} is missing" for path in job.outputs if not Path(path).exists())
    fetched = Path(job.outputs[0])
    if job.script == FETCH and fetched.exists() and not changed:
        content = content_now(job.settings["source"], fetched)
        if content == read_json(fetched)["sha256"]:
            return  # wherever it came from: fetching again would deliver the same
        if content:
            yield f"the source of {job.settings['dataset']} has other content"
    now = fingerprint(job.script, job.settings)
    if record["code"] == now["code"]:
        record["code"] = now["code"]  # one object for all jobs: of thousands it takes gigabytes
    yield from differences(record, to_match(record, now, accept_environment))


def _with_inputs(jobs: Sequence[Job], own: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Add to the jobs' own verdicts what follows from their inputs."""
    verdicts: dict[str, Verdict] = {}
    for job in jobs:
        verdict = own[job.record]
        recorded = (verdict.record or {}).get("inputs") or {}
        stale, expected = [], {}
        for path, maker in job.inputs.items():
            made = verdicts.get(maker)
            if made is None:
                expected[path] = file_digest(Path(path)) if Path(path).exists() else None
            elif made.is_stale or made.foreign or not made.record:
                expected[path] = recorded.get(path, "")
                if made.is_stale or made.foreign:
                    stale.append(path)
            elif path == maker:
                expected[path] = file_digest(Path(path))
            else:
                expected[path] = made.record["outputs"].get(path, {}).get("sha256")
        reasons = verdict.reasons
        if recorded:
            words = ("{} has other content", "{} is a new input", "{} is no longer an input")
            reasons += tuple(changed_entries(recorded, expected, *words))
        verdicts[job.record] = verdict._replace(reasons=reasons, stale_inputs=tuple(stale))
    return verdicts


def _lost_inputs(
    job: Job, by_record: Mapping[str, Job], verdicts: Mapping[str, Verdict], required: set[str]
) -> dict[str, tuple[str, ...]]:
    """Return, by record, why jobs that `job` reads from must run again although they are up to date.

    Snakemake notices missing files, but not an archive that was moved away or large arrays that were
    damaged. `required` are the jobs that were checked before.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in job.producers:
        verdict, producer = verdicts[name], by_record[name]
        if name in required or verdict.is_stale or verdict.foreign or not producer.may_be_gone:
            continue
        required.add(name)
        reasons = []
        if not all(Path(path).exists() for path in (*producer.outputs, *producer.temporary)):
            found |= _lost_inputs(producer, by_record, verdicts, required)
        elif producer.script == FETCH:  # the archive is read where it was left
            archive = read_json(Path(producer.outputs[0]).with_name("fetched_from.json"))["path"]
            reasons = [] if Path(archive).exists() else [f"{archive} is gone, and needed again"]
        else:
            outputs = verdict.record["outputs"]
            reasons = [f"{path} is gone, and needed again" for path in outputs if not Path(path).exists()]
            reasons += _changed_outputs(outputs, thorough=True)
        if reasons:
            found[name] = tuple(reasons)
    return found


def _changed_outputs(outputs: Mapping[str, Any], thorough: bool) -> Iterator[str]:
    """Yield each output that exists but has changed since it was written."""
    for path, made in outputs.items():
        file = Path(path)
        try:
            size = file.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            continue
        small = size <= _HASHED or thorough
        if size != made["bytes"] or (small and file_digest(file) != made["sha256"]):
            yield f"{path} was edited, cut short or replaced"


def _own_record(job: Job) -> Mapping[str, Any] | None:
    """Return the record of a job, or None if there is nothing to lose: no output, or no valid record.

    Raises StudyError for an output that is not known to be the job's.
    """
    output = job.outputs[0]
    try:
        record = read_record(Path(job.record))
        if record:
            outputs = record["outputs"] or {output: None}
            if record["script"] != job.script or output not in outputs:
                raise StudyError(f"{job.record}: is the record of {next(iter(outputs))}")
        elif Path(output).exists():
            raise StudyError(f"{job.record}: is missing")
        return record
    except StudyError as error:
        if not Path(output).exists():
            return None
        raise StudyError(
            f"{error}. So {output} is not known to belong to this study, and is not overwritten. "
            "Move it away, or delete it to have it made again"
        ) from error
