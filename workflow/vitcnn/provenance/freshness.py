"""Whether an output would come out the same if it were made again, and if not, why not, in words.

Each output has a record of what it was made of (`record`). It is fresh if that is what it would be made
of now: the same settings, the same code, the same packages, and inputs that are fresh and have the same
content. Times of files play no part, and nothing is kept anywhere but beside the outputs.

Packed data are a border: whether runs are stale after data were packed again is known from the bytes
alone, so until then they are pending.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.data.content import content_now
from vitcnn.errors import StudyError
from vitcnn.files import file_digest, read_json
from vitcnn.provenance.record import changed_entries, differences, made_of, read_record

FETCH, BORDER = "fetch_dataset", "pack_dataset"
_SHOWN = 8  # outputs or reasons named in one list
_HASHED = 1 << 20  # bytes; of larger outputs the size is compared, unless all is asked for


class Input(NamedTuple):
    """A file that a step reads, and the step that makes it; without an optional one it makes do."""

    path: str
    producer: "Step"
    is_optional: bool = False


class Step(NamedTuple):
    """One job of the study: `script` makes `output`, the first of its files; `provenance` is the record.

    `temporary` are files that it makes too, and that are deleted once they are used.
    """

    script: str
    output: str
    provenance: str
    settings: dict[str, Any]
    inputs: dict[str, list[Input]]
    temporary: tuple[str, ...] = ()


class Verdict(NamedTuple):
    """`reasons` make a step stale, in words; so do `stale_inputs`, files that are themselves stale.

    `pending` are packed data that are made again, whose bytes will say. `record` is None where there is
    none, nor an output: the step has not been done, or its data were deleted after use.
    """

    record: Mapping[str, Any] | None
    reasons: tuple[str, ...] = ()
    stale_inputs: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether the step is to be done again for certain."""
        return bool(self.reasons or self.stale_inputs)


class Freshness:
    """Judges steps, each once. With `accept_environment` other versions of packages are no reason.

    `forced` are scripts and outputs that are stale because the user says so. With `thorough` every
    output is read and compared with its digest, however large.
    """

    def __init__(
        self, accept_environment: bool = False, forced: Collection[str] = (), thorough: bool = False
    ) -> None:
        self.accept_environment = accept_environment
        self.forced = forced
        self.thorough = thorough
        self._verdicts: dict[str, Verdict] = {}
        self._checked: set[str] = set()

    def judge(self, step: Step) -> Verdict:
        """Return what is to be thought of a step.

        Raises StudyError if there is something in its place that is not known to be its output: no
        record, one that was edited or is damaged or of an unknown version, or that of another step.
        """
        if step.output not in self._verdicts:
            record = own_record(step)
            reasons = tuple(self._reasons(step, record))
            self._verdicts[step.output] = self._with_inputs(step, Verdict(record, reasons))
        return self._verdicts[step.output]

    def _reasons(self, step: Step, record: Mapping[str, Any] | None) -> Iterator[str]:
        """Yield why a step is stale of itself, whatever its inputs."""
        if step.script in self.forced or step.output in self.forced:
            yield "the command line asks for it"
        if record is None:
            if not _may_be_gone(step):
                yield "it does not exist yet"
            return
        if record["outputs"] is None:
            yield "it was begun and not finished"
            return
        changed = list(self._changed_outputs(record["outputs"], self.thorough))
        yield from changed
        if not _may_be_gone(step):
            yield from (f"{path} is missing" for path in record["outputs"] if not Path(path).exists())
        if step.script == FETCH and Path(step.output).exists() and not changed:
            content = content_now(step.settings["source"], Path(step.output))
            if content == read_json(Path(step.output))["sha256"]:
                return  # from wherever it came, and however: fetching would bring the same
            if content:
                yield f"the source of {step.settings['dataset']} has other content"
        now = made_of(step.script, step.settings)
        if self.accept_environment:
            now["environment"] = record["environment"]
        yield from differences(record, now)

    def _with_inputs(self, step: Step, verdict: Verdict) -> Verdict:
        """Add to a verdict what follows from the step's inputs."""
        inputs = [made for files in step.inputs.values() for made in files]
        recorded = (verdict.record or {}).get("inputs") or {}
        expected, stale, pending = {}, [], []
        for path, producer, is_optional in inputs:
            made = self.judge(producer)
            if is_optional and not made.record and path not in recorded:
                continue
            expected[path] = recorded.get(path, "")
            pending += made.pending
            if made.is_stale:
                (pending if producer.script == BORDER else stale).append(path)
            elif made.record and not made.pending:
                expected[path] = _identity(path, producer, made.record)
        reasons = verdict.reasons
        if recorded:
            words = ("{} has other content", "{} is a new input", "{} is no input any more")
            reasons += tuple(changed_entries(recorded, expected, *words))
        if reasons or stale:
            for path, producer, is_optional in inputs:
                if not is_optional and self._is_needed_again(producer):
                    (pending if producer.script == BORDER else stale).append(path)
        return Verdict(verdict.record, reasons, tuple(dict.fromkeys(stale)), tuple(dict.fromkeys(pending)))

    def _is_needed_again(self, step: Step) -> bool:
        """Return whether an input of a stale step was deleted after use, or damaged; it is stale then."""
        verdict = self.judge(step)
        if verdict.is_stale or step.output in self._checked:
            return verdict.is_stale
        self._checked.add(step.output)
        outputs = (verdict.record or {}).get("outputs") or {}
        reasons = []
        needed = [step.output, *outputs, *step.temporary]
        if step.script == FETCH and Path(step.output).exists():  # the archive is read where it was left
            needed.append(read_json(Path(step.output).with_name("fetched_from.json"))["path"])
        if not all(Path(path).exists() for path in needed):
            reasons.append("what it makes was deleted after use, and is needed again")
        if step.script == BORDER:  # before anything is trained on them, the arrays are read
            reasons += self._changed_outputs(outputs, thorough=True)
        if reasons:
            again = verdict._replace(reasons=tuple(reasons))
            self._verdicts[step.output] = self._with_inputs(step, again)
        return bool(reasons)

    @staticmethod
    def _changed_outputs(outputs: Mapping[str, Any], thorough: bool) -> Iterator[str]:
        """Yield what is there and no longer as it was made."""
        for path, made in outputs.items():
            file = Path(path)
            if not file.exists():
                continue
            small = made["bytes"] <= _HASHED or thorough
            if file.stat().st_size != made["bytes"] or (small and file_digest(file) != made["sha256"]):
                yield f"{path} is not as it was made: edited, cut short or replaced"


def _may_be_gone(step: Step) -> bool:
    """Return whether a step's output may be deleted after use: what was made from it says from what."""
    return step.output.startswith("resources/")


def own_record(step: Step) -> Mapping[str, Any] | None:
    """Return the record of a step, or None where there is nothing to lose: no output, no good record.

    Raises StudyError for an output that is not known to be the step's.
    """
    try:
        record = read_record(Path(step.provenance))
        if record:
            outputs = record["outputs"] or {step.output: None}
            if record["script"] != step.script or step.output not in outputs:
                raise StudyError(f"{step.provenance}: is the record of {next(iter(outputs))}")
        elif Path(step.output).exists():
            raise StudyError(f"{step.provenance}: is missing")
        return record
    except StudyError as error:
        if not Path(step.output).exists():
            return None
        raise StudyError(
            f"{error}. So {step.output} is not known to be of this study, and nothing is written over it. "
            "Move it away, or delete it to have it made again"
        ) from error


def _identity(path: str, producer: Step, record: Mapping[str, Any]) -> str | None:
    if path == producer.provenance:
        return file_digest(Path(path))
    return record["outputs"].get(path, {}).get("sha256")


def in_words(verdicts: Mapping[str, Verdict]) -> str:
    """Return why the outputs of these verdicts are made again, equal reasons together; "" for none."""
    together: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for output, verdict in verdicts.items():
        if verdict.reasons and verdict.record:
            together[verdict.reasons].append(output)
    lines = ["Made again, and why:"] if together else []
    for reasons, outputs in together.items():
        lines += [f"  {_some(outputs)}", *(f"      {reason}" for reason in reasons[:_SHOWN])]
        if len(reasons) > _SHOWN:
            lines.append(f"      and {len(reasons) - _SHOWN} more differences")
    following = [output for output, v in verdicts.items() if v.record and v.stale_inputs and not v.reasons]
    if following:
        lines += ["Made again, because it is made from these:", f"  {_some(following)}"]
    waiting: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for output, verdict in verdicts.items():
        if verdict.pending and not verdict.is_stale:
            waiting[verdict.pending].append(output)
    for packed, outputs in waiting.items():
        lines += [
            f"Made again only if packing changes the bytes of {', '.join(packed)}:",
            f"  {_some(outputs)}",
        ]
    return "\n".join(lines)


def _some(outputs: list[str]) -> str:
    more = f"\n  and {len(outputs) - _SHOWN} more" if len(outputs) > _SHOWN else ""
    return "\n  ".join(outputs[:_SHOWN]) + more
