"""The steps of a study: for each job what it reads, and the settings that decide what it writes.

A step is named as its rule. The rules take inputs and settings from here, and
`provenance.freshness` compares both with what was recorded when a step was last done.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitcnn import plan
from vitcnn.data.sources import reading_settings
from vitcnn.files import digest, file_digest
from vitcnn.provenance.freshness import Input, Step
from vitcnn.provenance.record import made_of
from vitcnn.results.figures import FIGURES


class Steps:
    """The steps of a checked configuration; each method makes the step of its name from the wildcards."""

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.study = study
        self.dataset_step = lru_cache(maxsize=None)(self._dataset_step)

    def all_steps(self) -> Iterator[Step]:
        """Yield every step that the study asks for, each after those it reads from."""
        runs = plan.all_runs(self.study)
        for dataset in plan.datasets_of(runs):
            yield self.fetch_dataset(dataset)
            yield self.copy_dataset(dataset)
            if self.study["datasets"][dataset]["layout"] == "tiny_imagenet":
                yield self.sort_validation(dataset)
            yield self.validate_images(dataset)
            yield self.pack_dataset(dataset)
        for dataset, model in dict.fromkeys((run.dataset, run.model) for run in runs):
            yield self.describe_model(dataset, model)
        for run in runs:
            yield self.train(*run)
        experiments = plan.active_experiments(self.study)
        for experiment in experiments:
            yield self.collect_runs(experiment)
        if "comparison" in experiments:
            yield self.tabulate_comparison("")
        for figure, needed in FIGURES.items():
            if set(needed) <= set(experiments):
                yield self.draw_figure("", figure)
        if experiments:
            yield self.write_findings("")

    # Data ------------------------------------------------------------------------------------

    def fetch_dataset(self, dataset: str) -> Step:
        """Fetch a dataset from the first of its sources that delivers."""
        return self.dataset_step("fetch_dataset", dataset)

    def copy_dataset(self, dataset: str) -> Step:
        """Copy what was fetched to where it may be changed."""
        return self.dataset_step("copy_dataset", dataset)

    def sort_validation(self, dataset: str) -> Step:
        """Sort Tiny ImageNet's validation images by class."""
        return self.dataset_step("sort_validation", dataset)

    def validate_images(self, dataset: str) -> Step:
        """Decode every image."""
        return self.dataset_step("validate_images", dataset)

    def pack_dataset(self, dataset: str) -> Step:
        """Pack the decoded images."""
        return self.dataset_step("pack_dataset", dataset)

    def _dataset_step(self, rule: str, dataset: str) -> Step:
        settings = self.study["datasets"][dataset]
        layout, folder = settings["layout"], f"resources/{dataset}"
        made_from, output, deciding = {
            "fetch_dataset": ("", "fetched.json", {"dataset": dataset, "source": settings["source"]}),
            "copy_dataset": ("fetch_dataset", "tree/copied.json", {"layout": layout}),
            "sort_validation": ("copy_dataset", "tree/sorted.json", {}),
            "validate_images": (
                "sort_validation" if layout == "tiny_imagenet" else "copy_dataset",
                "validation.json",
                {"dataset": dataset, "layout": layout, **reading_settings(settings)},
            ),
            "pack_dataset": (
                "validate_images",
                "packed/manifest.json",
                {
                    "image_size": settings["image_size"],
                    "num_classes": settings["num_classes"],
                    "on_damaged": self.study["on_damaged"],
                },
            ),
        }[rule]
        inputs = {}
        if made_from:
            producer = self.dataset_step(made_from, dataset)
            inputs["manifest"] = [Input(producer.output, producer)]
            if rule != "copy_dataset":  # a manifest does not show all that a folder holds; its record does
                inputs["record"] = [Input(producer.provenance, producer)]
        temporary = (f"{folder}/decoded/train_images.npy",) if rule == "validate_images" else ()
        record = f"{folder}/provenance/{rule}.json"
        return Step(rule, f"{folder}/{output}", record, deciding, inputs, temporary)

    # Runs ------------------------------------------------------------------------------------

    def train(self, dataset: str, model: str, recipe: str, train_size: str | int, seed: str | int) -> Step:
        """Train one run."""
        size = train_size if train_size == plan.ALL else int(train_size)
        run = plan.Run(dataset, model, recipe, size, int(seed))
        packed = self.pack_dataset(dataset)
        return Step(
            "train",
            str(run.folder / "metrics.json"),
            str(run.folder / "provenance.json"),
            {"spec": plan.run_spec(self.study, run)},
            {"manifest": [Input(packed.output, packed)]},
        )

    def describe_model(self, dataset: str, model: str) -> Step:
        """Describe a model's layers, whatever it is trained by."""
        run = plan.Run(dataset, model, next(iter(self.study["recipes"])), plan.ALL, 0)
        spec = plan.run_spec(self.study, run)
        titles = (self.study["models"][model]["title"], self.study["datasets"][dataset]["title"])
        base = f"results/models/{dataset}/{model}"
        return Step(
            "describe_model",
            f"{base}.txt",
            f"{base}.provenance.json",
            {"spec": {key: spec[key] for key in ("dataset", "model")}, "title": " for ".join(titles)},
            {},
        )

    # Results: `part` is empty or "partial/" ----------------------------------------------------

    def collect_runs(self, experiment: str) -> Step:
        """Collect an experiment's runs into tables."""
        runs = [self.train(*run) for run in plan.experiment_runs(self.study, experiment)]
        packed = [self.pack_dataset(d) for d in self.study["experiments"][experiment]["datasets"]]
        return Step(
            "collect_runs",
            f"results/collected/{experiment}/runs.csv",
            f"results/collected/{experiment}/provenance.json",
            self._collecting(experiment),
            {
                "metrics": [Input(step.output, step) for step in runs],
                "runtime": [Input(str(Path(step.output).with_name("runtime.json")), step) for step in runs],
                "packed": [Input(step.output, step, is_optional=True) for step in packed],
            },
        )

    def collect_partial(self, experiment: str) -> Step:
        """Collect those of an experiment's runs that are there."""
        step = self.collect_runs(experiment)
        paths = [Path(made.path) for made in (*step.inputs["metrics"], *step.inputs["packed"])]
        there = digest([[str(path), file_digest(path)] for path in paths if path.exists()])
        return Step(
            "collect_runs",
            f"results/partial/collected/{experiment}/runs.csv",
            f"results/partial/collected/{experiment}/provenance.json",
            step.settings | {"code": self._training_code(experiment), "finished": there},
            {},
        )

    def _training_code(self, experiment: str) -> dict[str, str]:
        """Return, by model, a digest of the code that trains it now."""
        first = {run.model: run for run in plan.experiment_runs(self.study, experiment)}
        steps = {model: self.train(*run) for model, run in sorted(first.items())}
        return {model: digest(made_of(step.script, step.settings)["code"]) for model, step in steps.items()}

    def _collecting(self, experiment: str) -> dict[str, Any]:
        study = plan.part_of_study(self.study, experiment)
        families = {name: model["family"] for name, model in study["models"].items()}
        first = {run.model: run for run in plan.experiment_runs(self.study, experiment)}
        steps = {model: self.train(*run) for model, run in sorted(first.items())}
        trained = {model: made_of(step.script, step.settings) for model, step in steps.items()}
        return {
            "study": study,
            "families": families,
            "environments": {model: made["environment"] for model, made in trained.items()},
        }

    def _collected(self, part: str, experiment: str, table: str = "runs") -> Input:
        step = self.collect_partial(experiment) if part else self.collect_runs(experiment)
        return Input(f"results/{part}collected/{experiment}/{table}.csv", step)

    def tabulate_comparison(self, part: str) -> Step:
        """Make the first notebook's table."""
        return Step(
            "tabulate_comparison",
            f"results/{part}tables/comparison.csv",
            f"results/{part}tables/comparison.provenance.json",
            {"title": self.study["report"]["titles"]["comparison"]},
            {"runs": [self._collected(part, "comparison")]},
        )

    def draw_figure(self, part: str, figure: str) -> Step:
        """Draw one of the second notebook's figures."""
        settings = self.study["report"]["plots"] | {"title": self.study["report"]["titles"][figure]}
        return Step(
            "draw_figure",
            f"results/{part}figures/{figure}.svg",
            f"results/{part}figures/{figure}.provenance.json",
            settings | {"figure": figure},
            {
                "runs": [self._collected(part, experiment) for experiment in FIGURES[figure]],
                "epochs": [self._collected(part, experiment, "epochs") for experiment in FIGURES[figure]],
            },
        )

    def write_findings(self, part: str) -> Step:
        """Answer the notebooks' questions."""
        return Step(
            "write_findings",
            f"results/{part}findings.md",
            f"results/{part}findings.provenance.json",
            {},
            {"runs": [self._collected(part, name) for name in plan.active_experiments(self.study)]},
        )
