# What each rule's script is told: its settings, which its record keeps, so that a change of them makes it stale.


def describing(wildcards):
    """Return the settings of describe_model."""
    dataset, model = wildcards.dataset, wildcards.model
    found = {
        "spec": plan.model_spec(STUDY, dataset, model),
        "title": f"{MODELS[model]['title']} for {DATASETS[dataset]['title']}",
    }
    equal = plan.equals(STUDY, dataset, model)
    return found | {"equal": equal} if equal else found


def collecting(wildcards):
    """Return the settings of collect_runs: the experiment, and what would train its runs now."""
    first = {run.model: run for run in plan.experiment_runs(STUDY, wildcards.experiment)}
    trained = {
        model: fingerprint("train", {"spec": plan.run_spec(STUDY, run)})
        for model, run in sorted(first.items())
    }
    study = plan.part_of_study(STUDY, wildcards.experiment)
    found = {
        "study": study,
        "generated": [n for n in study["datasets"] if is_generated(DATASETS[n]["source"])],
        "families": {name: model["family"] for name, model in study["models"].items()},
        "environments": {model: made["environment"] for model, made in trained.items()},
    }
    if not wildcards.part:
        return found
    # Partial results have no inputs, so that they wait for nothing: what there is decides.
    folders = [run.folder for run in plan.experiment_runs(STUDY, wildcards.experiment)]
    paths = [folder / name for folder in folders for name in ("metrics.json", "provenance.json")]
    there = digest([[str(path), file_digest(path)] for path in paths if path.exists()])
    code = {model: digest(made["code"]) for model, made in trained.items()}
    return found | {"code": code, "finished": there}


def titled(experiment):
    """Return the title of an experiment, and which accuracy it shows."""
    asked = STUDY["experiments"][experiment]
    return {"title": plan.title_of(STUDY, experiment), "accuracy": asked["accuracy"]}


def compared(experiment):
    """Return the title of an experiment, which accuracy it shows, and which pairs of its models are compared."""
    return titled(experiment) | {"pairs": STUDY["experiments"][experiment].get("pairs")}


def drawing(wildcards):
    """Return the settings of draw_figure."""
    kind, experiments, title = FIGURES[wildcards.figure]
    return drawn(experiments) | {"figure": kind, "experiments": experiments, "title": title}


def drawn(experiments):
    """Return how figures look, and of these experiments which accuracy they show and the looks of their models."""
    looks = plan.looks(STUDY)
    asked = {name: STUDY["experiments"][name] for name in experiments}
    return STUDY["report"]["plots"] | {
        "accuracy": {name: experiment["accuracy"] for name, experiment in asked.items()},
        "looks": {model: looks[model] for e in asked.values() for model in e["models"]},
    }


def finding(wildcards):
    """Return the settings of write_findings."""
    found = {
        "experiments": {name: compared(name) for name in EXPERIMENTS},
        "claims": {name: group for name, group in STUDY["claims"].items() if group},
        "questions": {
            "sizes": (STUDY["predictions"] or {}).get("sizes"),
            "steps": (STUDY["flaws"] or {}).get("steps", [None])[0],
        },
    }
    return found if wildcards.part or not PROBED else found | {"probed": entries_of_probed()}


def tabulating_flaws(wildcards):
    """Return the settings of tabulate_flaws.

    Of optional experiments those count that are there already, as the configuration asks for them now; they are no
    inputs, which would be made.
    """
    records = {
        name: Path(f"results/tables/{name}_differences.provenance.json")
        for name in ALL_EXPERIMENTS
        if name in ALL_FLAW_EXPERIMENTS and name not in EXPERIMENTS
    }
    found = {name: record for name, record in records.items() if record.exists()}
    there = {name: file_digest(record) for name, record in found.items() if is_as_asked(name)}
    measured = [*FLAW_EXPERIMENTS, *there]
    return {
        "flaws": STUDY["flaws"] or {},
        "pairs": {name: STUDY["experiments"][name].get("pairs") for name in measured},
        "optional": there,
        "absent": {
            name: (
                f"experiments.{name} is off"
                if name not in records
                else f"after `snakemake {name}`,{' as the configuration changed,' if name in found else ''} "
                "`snakemake results/tables/flaws.html` has it"
            )
            for name in ALL_FLAW_EXPERIMENTS
            if name not in measured
        },
        "probed": entries_of_probed(),
    }


def is_as_asked(experiment):
    """Return whether the runs of an experiment were collected as the configuration asks for them now."""
    try:
        record = read_record(Path("results/collected", experiment, "provenance.json"))
    except StudyError:
        return False
    return record is not None and record["settings"].get("study") == plan.part_of_study(
        STUDY, experiment
    )


def entries_of_probed():
    """Return an entry for each probed run: its folder, title, family, experiments, dataset, train size and seed.

    Experiments that list recipes compare models by each of them alone, so their names have the recipe.
    """
    names = STUDY["representations"]["experiments"] if STUDY["representations"] else []
    listed = [name for name in names if isinstance(STUDY["experiments"][name]["recipe"], list)]
    return [
        entry
        | {
            "experiments": [
                f"{name}, {run.recipe}" if name in listed else name for name in entry["experiments"]
            ],
            "dataset": DATASETS[run.dataset]["title"],
            "train_size": run.train_size,
            "seed": run.seed,
        }
        for run, entry in zip(PROBED, entries_of(PROBED, names))
    ]


def entries_of(runs, names):
    """Return an entry for each run: its folder, title, family, and which of the experiments ask for it."""
    experiments = {name: {*plan.experiment_runs(STUDY, name)} for name in names}
    titles = titles_of(runs)
    return [
        {
            "folder": str(run.folder),
            "title": titles[run],
            "family": MODELS[run.model]["family"],
            "experiments": [name for name, asked in experiments.items() if run in asked],
        }
        for run in runs
    ]


def titles_of(runs):
    """Return by run the title of its model, with the recipe where a model has several."""
    recipes = {(run.model, run.recipe) for run in runs}
    several = [model for model, _ in recipes]
    return {
        run: MODELS[run.model]["title"]
        + (f", {run.recipe}" if several.count(run.model) > 1 else "")
        for run in runs
    }


def probing(wildcards):
    """Return the settings of probe_run."""
    also = sorted((STUDY["representations"] or {}).get("also", []))
    spec = {"spec": plan.run_spec(STUDY, run_of(wildcards))}
    return spec | {"also": also} if also else spec


def drawing_representation(wildcards):
    """Return the settings of draw_representation."""
    dataset = DATASETS[STUDY["representations"]["dataset"]]
    origin = " (generated images)" if is_generated(dataset["source"]) else ""
    entries = entries_of_probed()
    places = plan.looks(STUDY)
    looks = {e["title"]: places[run.model] for e, run in zip(entries, PROBED)}
    if len(set(looks.values())) < len(looks):  # one model by two recipes
        looks = {title: place for place, title in enumerate(looks)}
    return STUDY["report"]["plots"] | {
        "figure": wildcards.figure,
        "title": STUDY["report"]["titles"][wildcards.figure] + origin,
        "dataset_title": dataset["title"],
        "num_classes": dataset["num_classes"],
        "looks": looks,
        "runs": entries,
    }


def tabulating_corruptions(wildcards):
    """Return the settings of tabulate_corruptions: each run, and which pairs of models are compared."""
    asked = STUDY["corruptions"]
    dataset = DATASETS[asked["dataset"]]
    entries = entries_of(CORRUPTED, asked["experiments"])
    return {
        "title": f"Corrupted images of {dataset['title']}",
        "generated": is_generated(dataset["source"]),
        "runs": [run._asdict() | entry for run, entry in zip(CORRUPTED, entries)],
        "pairs": {
            name: STUDY["experiments"][name].get("pairs")
            for name in asked["experiments"]
            if plan.experiment_runs(STUDY, name)
        },
    }


def costing(wildcards):
    """Return the settings of measure_cost."""
    spec = plan.model_spec(STUDY, wildcards.dataset, wildcards.model)
    return {"spec": spec | {"precision": STUDY["precision"]}}


def tabulating_cost(wildcards):
    """Return the settings of tabulate_cost."""
    asked = [STUDY["experiments"][name] for name in COST_EXPERIMENTS]
    return {
        "title": STUDY["report"]["titles"]["cost"],
        "datasets": {name: DATASETS[name]["title"] for e in asked for name in e["datasets"]},
        "models": {name: MODELS[name]["title"] for e in asked for name in e["models"]},
    }


def drawing_cost(wildcards):
    """Return the settings of draw_cost."""
    return drawn(COST_EXPERIMENTS) | {
        "title": STUDY["report"]["titles"]["cost"],
        "experiments": {name: plan.title_of(STUDY, name) for name in COST_EXPERIMENTS},
    }


def scoring(wildcards):
    """Return the settings of score_predictions."""
    asked = predictions.askable(STUDY)
    at_equal_updates = (
        name
        for name in EXPERIMENTS
        if len(STUDY["experiments"][name]["train_sizes"]) > 1
        and all(
            "updates" in STUDY["recipes"][run.recipe] for run in plan.experiment_runs(STUDY, name)
        )
    )
    shown = [
        (f, f"results/figures/{f}.svg") for f in ("robustness", "reach") if f in PROBED_FIGURES
    ]
    tables = [("updates", f"results/tables/{name}.html") for name in at_equal_updates]
    experiments = {name: asked["experiments"][name] for name in PREDICTED_EXPERIMENTS}
    return asked | {"experiments": experiments, "bears_on": [*shown, *tables]}
