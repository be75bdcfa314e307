"""The workflow, by running it: a small study from fetch to report."""

import csv
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest
import yaml
from chromium import chromium
from conftest import RAW, ROOT, SMALL, jobs, made_once, merge, read, run_script, said, snakemake

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.files import read_json
from vitcnn.provenance.record import read_record, write_record

RUN = "results/runs/cifar10/vit/adam10/nall/seed0"
CHAIN = {"fetch_dataset": 1, "copy_dataset": 1, "validate_images": 1, "pack_dataset": 1}
EXPERIMENTS = ("comparison", "curves", "data_efficiency")
FIGURES = (
    *("training_curves", "data_efficiency", "summary", "data_efficiency_data_efficiency"),
    *(f"{experiment}_curves" for experiment in EXPERIMENTS),
)


# Put into the start of every Python: it notes each file that the script of a job opens. The estimate before
# the first job is no job, and makes nothing.
NOTE_WHAT_IS_OPENED = """
import os, sys
def note(event, args):
    job = "/workflow/scripts/" in sys.argv[0] and "estimate_time" not in sys.argv[0]
    if event == "open" and job and isinstance(args[0], str):
        os.write(out, f"{args[0]}\\n".encode())
out = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.argv = getattr(sys, "argv", [""])
sys.addaudithook(note)
"""


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """The folder of a finished study; tests that run something in it take a copy."""

    def make(folder):
        (folder / "hook").mkdir()
        (folder / "hook/sitecustomize.py").write_text(NOTE_WHAT_IS_OPENED)
        env = {"PYTHONPATH": str(folder / "hook"), "OPENED": str(folder / "opened.txt")}
        done = snakemake(folder / "with a space", env=env)
        assert done.returncode == 0, said(done)
        assert "Results are in:" in said(done)

    return made_once(tmp_path_factory, "study", make) / "with a space"


@pytest.fixture
def copied(study, tmp_path):
    return shutil.copytree(study, tmp_path / "copy")


@pytest.fixture
def with_data(study, tmp_path):
    """A folder in which the data are there, and nothing else."""
    shutil.copytree(study / "resources", tmp_path / "resources")
    return tmp_path


def test_everything_is_there(study):
    results = study / "results"
    for experiment in EXPERIMENTS:
        for kind in ("csv", "md", "html", "tex"):
            assert (results / f"tables/{experiment}.{kind}").stat().st_size
    for figure in FIGURES:
        for kind in ("svg", "png", "pdf"):
            assert (results / f"figures/{figure}.{kind}").stat().st_size
    assert (results / "findings.md").read_text().startswith("# Findings (generated images)")
    assert "<h1>Findings (generated images)</h1>" in (results / "findings.html").read_text()
    for kind in ("txt", "html"):
        assert len(list(results.glob(f"models/cifar10/*.{kind}"))) == 4
    assert len(list(results.rglob("metrics.json"))) == 12


def test_every_run_is_valid(study):
    for path in (study / "results/runs").rglob("metrics.json"):
        metrics = read_json(path, "metrics.schema.json")
        runtime = read_json(path.with_name("runtime.json"), "runtime.schema.json")
        assert len(metrics["history"]) == len(runtime["epoch_seconds"]) == 2
        assert sorted(p.name for p in path.parent.iterdir()) == [
            "metrics.json",
            "model.safetensors",
            "predictions.npz",
            "provenance.json",
            "runtime.json",
        ]


def test_the_table_is_that_of_the_runs(study):
    with (study / "results/tables/comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["Model"], row["Dataset"]) for row in rows] == [("ViT", "CIFAR-10"), ("CNN", "CIFAR-10")]
    finals = [
        read(study / f"results/runs/cifar10/vit/adam10/nall/seed{seed}/metrics.json")["accuracy"]["final"]
        for seed in (0, 1)
    ]
    assert float(rows[0]["Accuracy (%)"]) == pytest.approx(sum(finals) / 2)


def test_the_arrays_decoded_on_the_way_are_gone(study):
    assert not list((study / "resources").rglob("decoded/*.npy"))


def test_a_figure_schedules_its_ancestors_alone(tmp_path):
    counts = jobs(snakemake(tmp_path, "--dry-run", RUN + "/metrics.json"))
    assert counts == CHAIN | {"train": 1}
    counts = jobs(snakemake(tmp_path, "--dry-run", "results/figures/data_efficiency.png"))
    assert counts == CHAIN | {"train": 4, "collect_runs": 1, "draw_figure": 1}
    counts = jobs(snakemake(tmp_path, "--dry-run", "results/figures/summary.svg"))
    assert counts == CHAIN | {"train": 8, "collect_runs": 2, "draw_figure": 1}
    counts = jobs(snakemake(tmp_path, "--dry-run", "results/tables/comparison.md"))
    assert counts == CHAIN | {"train": 4, "collect_runs": 1, "tabulate_experiment": 1}


def test_an_experiment_of_any_name_makes_its_results_alone(tmp_path):
    mine = {"datasets": ["cifar10"], "models": ["cnn", "simple_cnn"], "recipe": "adam10", "seeds": [0]}
    change = {"experiments": {"zoo": mine | {"train_sizes": [100, 200]}}}
    shown = {"collect_runs": 1, "tabulate_experiment": 1, "analyse_answers": 1, "draw_figure": 2}
    shown |= {"train": 4, "describe_model": 2}  # so that models that cannot be built are found first
    assert jobs(snakemake(tmp_path, "--dry-run", "zoo", config=change)) == CHAIN | shown | {"zoo": 1}
    counts = jobs(snakemake(tmp_path, "--dry-run", "curves"))
    assert counts == CHAIN | shown | {"curves": 1}  # without the summary, which needs more


def test_an_optional_experiment_is_made_by_its_name_alone(tmp_path):
    """Here in its own table; no run of it is asked for by anything else."""
    mine = {
        "datasets": ["cifar10"],
        "models": ["cnn", "vit"],
        "recipe": "adamw10",
        "seeds": [0],
        "optional": True,
    }
    change = {"experiments": {"mine": mine, "curves": None, "data_efficiency": None}}
    shown = {"collect_runs": 1, "tabulate_experiment": 1, "analyse_answers": 1, "draw_figure": 1, "mine": 1}
    shown |= {"train": 2, "describe_model": 2}
    assert jobs(snakemake(tmp_path, "--dry-run", "mine", config=change)) == CHAIN | shown
    assert jobs(snakemake(tmp_path, "--dry-run", config=change))["train"] == 4  # of the comparison


def test_the_ledger_takes_an_optional_experiment_as_it_is_asked_for_now(tmp_path):
    """Not one of another configuration; its settings are read off the command that is planned."""
    mine = {"datasets": ["cifar10"], "models": ["cnn", "vit"], "recipe": "adamw10", "optional": True}
    change = {"experiments": {"tuning": mine}, "flaws": {"rate": "tuning"}}
    config = check_config(merge(merge(RAW, SMALL), change))
    record = {"version": 1, "settings": {"study": plan.part_of_study(config, "tuning")}}
    collected = tmp_path / "results/collected/tuning/provenance.json"
    for path in (collected, tmp_path / "results/tables/tuning_differences.provenance.json"):
        path.parent.mkdir(parents=True)
        write_record(path, record)

    def settings(**more):
        command = ("--dry-run", "--printshellcmds", "results/tables/flaws.md")
        planned = said(snakemake(tmp_path, *command, config=merge(change, more)))
        return json.loads(re.search(r"tabulate_flaws\.py .*--settings '([^']*)'", planned)[1])

    assert settings()["optional"].keys() == {"tuning"}
    other = settings(recipes={"adamw10": {"lr": 0.5}})
    assert other["optional"] == {}
    assert other["absent"]["tuning"] == (
        "after `snakemake tuning`, as the configuration changed, `snakemake results/tables/flaws.html` has it"
    )


def test_there_is_no_ledger_where_none_of_its_experiments_is_on(tmp_path):
    mine = {"datasets": ["cifar10"], "models": ["cnn"], "recipe": "adam10"}
    off = dict.fromkeys(("comparison", "curves", "data_efficiency", "data_steps", "fair"))
    change = {"experiments": {"mine": mine} | off, "representations": None, "cost": None, "corruptions": None}
    change["flaws"] = {"size": "fair", "rate": "tune"}  # off, and optional
    counts = jobs(snakemake(tmp_path, "--dry-run", config=change))
    assert counts["tabulate_experiment"] == 1
    assert "tabulate_flaws" not in counts


def test_what_the_models_learned_is_one_job_a_run(tmp_path):
    """Of the runs with the most images; nothing else is trained or collected for it."""
    probed = {"dataset": "cifar10", "experiments": ["comparison", "data_efficiency"]}
    change = {"representations": probed}
    counts = jobs(snakemake(tmp_path, "--dry-run", "results/figures/reach.svg", config=change))
    assert counts == CHAIN | {"train": 6, "probe_run": 6, "draw_representation": 1}
    change["experiments"] = {"comparison": {"recipe": ["adam10", "adamw10"]}}
    shown = snakemake(
        tmp_path, "--dry-run", "--printshellcmds", "results/figures/reach.svg", config=change
    ).stdout  # models that have several recipes are compared by each of them alone
    assert '"experiments":["comparison, adam10"]' in shown and '"experiments":["data_efficiency"]' in shown
    # So it is with a run that no experiment asks for, by its name.
    target = "results/runs/cifar100/simple_cnn/adamw20/n300/seed42/representations.npz"
    assert jobs(snakemake(tmp_path, "--dry-run", target)) == CHAIN | {"train": 1, "probe_run": 1}


def test_what_models_cost_beside_their_accuracy(with_data):
    """Also that models which are as equal as declared leave nothing to do, and nothing that is unknown."""
    equal = [{"models": ["simple_cnn", "simple_vit"], "in": "parameters", "within": 1}]
    change = {
        "cost": {"experiments": ["curves"]},
        "experiments": {
            "comparison": None,
            "data_efficiency": None,
            "curves": {"seeds": [0], "equal": equal},
        },
        "claims": dict.fromkeys(("first_notebook", "second_notebook", "fair")),
    }
    planned = snakemake(with_data, "--dry-run", "results/tables/cost.csv", config=change)
    assert jobs(planned) == {"measure_cost": 2, "tabulate_cost": 1}  # of models before they are trained
    blocks = re.findall(r"rule measure_cost:\n((?:    .*\n)+)", said(planned))
    assert len(blocks) == 2
    for block in blocks:  # each alone: all cores, and all slots of training
        assert "threads: 2" in block and "training_slots=100000" in block
    done = snakemake(with_data, config=change)
    assert done.returncode == 0, done.stderr
    assert "results/figures/cost.svg" in said(done).split("Results are in:")[1]
    with (with_data / "results/tables/cost.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    for model in ("simple_vit", "simple_cnn"):
        cost = read(with_data / f"results/cost/cifar10/{model}.json")
        metrics = read(with_data / f"results/runs/cifar10/{model}/adamw20/nall/seed0/metrics.json")
        assert cost["parameters"] == metrics["num_parameters"] == int(rows[model]["parameters"])
        assert f"{cost['flops']:,} FLOPs" in (with_data / f"results/models/cifar10/{model}.txt").read_text()
    again = snakemake(with_data, config=change)
    assert "Nothing to be done" in said(again)
    done = run_script("audit", "--configfile", "config.yaml", cwd=with_data)
    assert re.fullmatch(r"\d+ up to date \(would come out the same now\)\n", done.stdout), done.stdout
    equal.clear()
    assert jobs(snakemake(with_data, "--dry-run", config=change)) == {"describe_model": 1, "all": 1}


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({"seeds": [0, 1, 5]}, 4),
        ({"experiments": {"data_efficiency": {"train_sizes": [100]}}}, 0),
    ],
)
def test_a_change_of_the_configuration_trains_what_it_asks_for(change, runs, copied):
    assert jobs(snakemake(copied, "--dry-run", config=change)).get("train", 0) == runs


def test_sizes_asked_for_later_are_still_checked(with_data):
    done = snakemake(
        with_data, "--dry-run", config={"experiments": {"data_efficiency": {"train_sizes": [1001]}}}
    )
    assert done.returncode != 0
    assert "train_size 1,001 is over the 1,000 training images" in said(done)


def test_config_on_the_command_line(tmp_path):
    done = snakemake(
        tmp_path,
        "--dry-run",
        "--printshellcmds",
        "--config",
        "seeds=[7]",
        "jobs_per_gpu=3",
        "graphs=off",
        "max_unpacked_gb=7",
        'recipes={"adam10": {"epochs": 1}}',
        'experiments={"curves": null, "data_efficiency": null}',
    )
    assert jobs(done)["train"] == 2
    text = said(done)
    assert '"epochs":1' in text
    assert "seed7" in text
    for option in ("--jobs-per-gpu 3", "--graphs off", "--max-unpacked-gb 7"):
        assert option in text
    assert jobs(done)["draw_figure"] == 1  # that of comparison alone


def test_cores_do_not_change_the_metrics(with_data, tmp_path_factory):
    folders = [with_data, shutil.copytree(with_data, tmp_path_factory.mktemp("three") / "copy")]
    for folder, cores in zip(folders, ("1", "3"), strict=True):
        done = snakemake(folder, "--cores", cores, f"{RUN}/metrics.json", config={"threads": 2})
        assert done.returncode == 0, done.stderr
        assert read(folder / RUN / "runtime.json")["threads"] == 2
    first, second = (folder / RUN / "metrics.json" for folder in folders)
    assert first.read_bytes() == second.read_bytes()


def test_beside_other_jobs_or_alone_the_metrics_are_the_same(study, with_data):
    done = snakemake(with_data, f"{RUN}/metrics.json")
    assert done.returncode == 0, done.stderr
    assert (with_data / RUN / "metrics.json").read_bytes() == (study / RUN / "metrics.json").read_bytes()


def test_one_run_by_hand(study, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(merge(RAW, SMALL)))
    arguments = ["--run", RUN.removeprefix("results/runs/"), "--config", tmp_path / "config.yaml"]
    done = run_script("train", *arguments, "--out", tmp_path / "out", cwd=study)
    assert done.returncode == 0, done.stderr
    assert "epoch 2 of 2" in done.stderr
    assert (tmp_path / "out/metrics.json").read_bytes() == (study / RUN / "metrics.json").read_bytes()


def test_every_entry_of_the_report_opens(study, tmp_path):
    """Chromium shows each entry when it is clicked, and no table is wider than its place in a small window."""
    done = snakemake(study, "--report", str(tmp_path / "report.zip"))
    assert done.returncode == 0, done.stderr
    shutil.unpack_archive(tmp_path / "report.zip", tmp_path)
    report = tmp_path / "report" / "report.html"
    text = report.read_text()
    assert "Generated images" in text
    assert "Out of date" not in text
    if not shutil.which("chromium"):
        pytest.skip("no chromium here, so no entry can be clicked")
    opened = set()
    with chromium(shutil.which("chromium"), tmp_path / "profile") as page:
        page.open(report.as_uri())
        for category in page.wait_for("Object.keys(categories)"):
            page.evaluate("app.setView({navbarMode: 'menu'})")
            page.evaluate(
                f"[...document.querySelectorAll('nav a')].find(a => a.innerText == '{category}').click()"
            )
            for row in range(page.wait_for("document.querySelectorAll('nav tbody tr').length")):
                page.evaluate(f"document.querySelectorAll('nav tbody tr')[{row}].querySelector('a').click()")
                path = page.evaluate("app.state.resultPath")
                if path.endswith(".svg"):
                    picture = "document.querySelector('img:not(nav img)')"
                    assert page.wait_for(f"{picture}?.complete && {picture}.naturalWidth") > 100, path
                else:
                    assert page.wait_for_in_frame("document.body.innerText.length > 300"), path
                    width = "document.documentElement.scrollWidth"
                    assert page.wait_for_in_frame(width) <= page.evaluate(
                        "document.querySelector('iframe').clientWidth"
                    ), path
                opened.add(path)
    figures = [f"figures/{figure}.svg" for figure in FIGURES]
    of_answers = ("", "_differences", "_selection", "_calibration")
    tables = [f"tables/{experiment}{table}.html" for experiment in EXPERIMENTS for table in of_answers]
    models = [f"models/cifar10/{model}.html" for model in ("vit", "cnn", "simple_vit", "simple_cnn")]
    assert opened == {f"results/{p}" for p in ("findings.html", *tables, *figures, *models)}


def test_a_report_over_stale_results_says_so(study, tmp_path):
    report = tmp_path / "report.html"
    done = snakemake(study, "--report", str(report), config={"recipes": {"adam10": {"lr": 0.5}}})
    assert done.returncode == 0, done.stderr
    first_page = html.unescape(re.search(r"workflow_desc = (.*)", report.read_text())[1])
    shown = re.sub(r"<[^>]+>|\\\\n", " ", first_page)
    assert "Out of date: 9 outputs" in " ".join(shown.split()), (
        shown
    )  # 4 runs, their numbers, what shows them
    assert f"{RUN}/metrics.json" in first_page
    assert r"recipe.lr: 0.001 \u2192 0.5" in first_page


def test_partial_renders_what_exists_and_marks_the_gaps(copied):
    for seed in (0, 1):
        shutil.rmtree(copied / f"results/runs/cifar10/simple_vit/adamw20/nall/seed{seed}")
    (copied / RUN / "metrics.json").unlink()
    before = {p: p.read_bytes() for p in (copied / "results").rglob("*") if p.is_file()}
    done = snakemake(copied, "partial")
    assert done.returncode == 0, done.stderr
    assert {p: p.read_bytes() for p in before} == before
    partial = copied / "results/partial"
    assert " 1 of 2 |" in (partial / "tables/comparison.md").read_text()
    assert "**Partial: 3 of 12 runs are missing.**" in (partial / "findings.md").read_text()
    assert "PARTIAL: 2 of 4 runs are missing" in (partial / "figures/training_curves.svg").read_text()
    assert "PARTIAL" not in (partial / "figures/data_efficiency.svg").read_text()
    shown = said(done).split("Results are in:")[1]
    assert f"{partial}/findings.html" in shown and f"{copied}/results/findings.html" not in shown
    again = snakemake(copied, "partial")
    assert "Nothing to be done" in said(again)
    assert list(partial.rglob("*provenance.json"))
    audited = snakemake(copied, "audit").stdout
    assert "unused" not in audited and "results/partial" not in audited


def test_keep_going_past_a_run_that_fails(with_data):
    config = {
        "seeds": [0],
        "datasets": {"cifar100": {"source": ["embedded:cifar100"]}},
        "experiments": {
            "comparison": {"datasets": ["cifar10", "cifar100"]},
            "curves": None,
            "data_efficiency": None,
        },
        "models": {"cnn": {"channels": [8]}},
        "recipes": {"adam10": {"lr": {"default": 0.001, "cifar100": 1e20}}},
    }
    done = snakemake(with_data, "--keep-going", "results/collected/comparison/runs.csv", config=config)
    assert done.returncode != 0
    assert "the training loss became" in said(done)
    assert "`snakemake partial`, with the options of this command, shows what the finished runs give" in said(
        done
    )
    assert len(list((with_data / "results/runs/cifar10").rglob("metrics.json"))) == 2
    assert not list((with_data / "results/runs/cifar100").rglob("metrics.json"))
    assert "a lower lr may help" in next((with_data / "logs/runs/cifar100").rglob("*.log")).read_text()
    assert snakemake(with_data, "partial", config=config).returncode == 0
    assert " 0 of 1 |" in (with_data / "results/partial/tables/comparison.md").read_text()


def test_a_run_repeated_from_its_record_alone(study, tmp_path):
    """No configuration is at hand: the record says it all."""
    record = study / RUN / "provenance.json"
    arguments = ["--repeat", record, "--data", study / "resources/cifar10/packed"]
    done = run_script("train", *arguments, "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "changed since" not in done.stderr
    for name in ("metrics.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (study / RUN / name).read_bytes()
    first, second = read(record), read(tmp_path / "again/provenance.json")
    assert [first[key] for key in ("settings", "code", "environment")] == [
        second[key] for key in ("settings", "code", "environment")
    ]
    refused = run_script("train", *arguments, cwd=tmp_path)
    assert refused.returncode == 1
    assert "needs --out, another folder" in refused.stderr


def test_what_a_run_records(study):
    record, runtime = read(study / RUN / "provenance.json"), read(study / RUN / "runtime.json")
    assert record["settings"]["spec"] == read(study / RUN / "metrics.json")["spec"]
    assert "training/loop.py: train" in record["code"]
    assert "models/vit.py: Attention" in record["code"]
    assert not any(
        name.startswith(("models/resnet.py", "results/", "config.py", "schema.py")) for name in record["code"]
    )
    assert {"torch", "numpy", "safetensors"} <= record["environment"].keys()
    manifest = "resources/cifar10/packed/manifest.json"
    assert record["inputs"] == {manifest: hashlib.sha256((study / manifest).read_bytes()).hexdigest()}
    for path, made in record["outputs"].items():
        assert hashlib.sha256((study / path).read_bytes()).hexdigest() == made["sha256"]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    assert runtime["git"].keys() == {"commit", "dirty"} and runtime["git"]["commit"] == (head or None)
    for key in ("command", "host", "platform", "device", "versions", "started_at", "ended_at"):
        assert runtime[key]


def test_no_script_reads_the_configuration_behind_its_settings(study):
    opened = (study.parent / "opened.txt").read_text().splitlines()
    for name in (
        "metrics.json",
        "manifest.json",
        "runs.csv",
        "comparison.csv",
        "training_curves.svg",
        "findings.md",
    ):
        assert any(name in path for path in opened), name
    forbidden = ("config.yaml", "logs/config.json", ".smk", "Snakefile", "profile.yaml", ".snakemake")
    assert [path for path in opened if any(word in path for word in forbidden)] == []


def test_audit(copied):
    def audit(*arguments):
        return run_script("audit", "--configfile", "config.yaml", *arguments, cwd=copied)

    snakemake(copied, "--dry-run")  # writes config.yaml
    shutil.rmtree(copied / ".snakemake")
    done = audit()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ up to date \(would come out the same now\)\n", done.stdout)

    stale = snakemake(copied, "audit", config={"recipes": {"adam10": {"lr": 0.5}}})
    assert stale.returncode == 1 and "snakemake partial" not in said(stale)
    stale = audit()
    assert stale.returncode == 1
    assert (
        "9 stale (would come out differently now)" in stale.stdout
    )  # 4 runs, their numbers, and what shows them
    assert f"  {RUN}/metrics.json\n" in stale.stdout
    assert "      recipe.lr: 0.001 → 0.5\n" in stale.stdout

    snakemake(copied, "--dry-run", config={"seeds": [0]})  # rewrites config.yaml
    shutil.copytree(copied / RUN, copied / RUN.replace("seed0", "seed7"))
    (copied / "results/runs/notes").mkdir()
    (copied / "results/runs/notes/a.txt").write_text("mine")
    done = audit()
    assert done.returncode == 1
    assert "4 unused (no experiment asks for them; kept until you remove them by name)" in done.stdout
    assert "2 unknown" in done.stdout
    assert f"its provenance.json is that of {RUN}/metrics.json" in done.stdout
    orphan = RUN.replace("seed0", "seed1")
    for kept in (RUN, RUN.replace("seed0", "seed7"), "results/runs/notes"):
        assert audit("--remove", orphan, kept).returncode == 1
        assert (copied / orphan).exists()
    probed = read_record(copied / orphan / "provenance.json")
    probed["outputs"] = {f"{orphan}/representations.npz": next(iter(probed["outputs"].values()))}
    write_record(copied / orphan / "representations.provenance.json", probed)
    (copied / orphan / "representations.npz").touch()
    assert audit("--remove", orphan).returncode == 0
    assert not (copied / orphan).exists()
    write_record(copied / RUN / "corruptions.provenance.json", probed | {"outputs": None})
    assert audit("--remove", f"{RUN}/corruptions.provenance.json").returncode == 0
    assert not (copied / RUN / "corruptions.provenance.json").exists()
    assert (copied / RUN / "metrics.json").exists() and (copied / RUN / "provenance.json").exists()


def test_a_prediction_is_scored_and_trains_nothing(copied):
    path = copied / "predictions/ana b.yaml"
    path.parent.mkdir()
    values = {
        "which_has_higher_accuracy": "CNN",
        "which_trains_faster": "CNN",
        "accuracy_gap_percent": 5,
        "vit_catches_up_at": "never",
        "reasoning": "Few images.",
    }
    path.write_text(yaml.safe_dump(values))
    assert jobs(snakemake(copied, "--dry-run")) == {}  # nothing is sealed
    refused = snakemake(copied, "--dry-run", "results/predictions.md")
    assert "no prediction is sealed here; write predictions/NAME.yaml" in said(refused)
    done = snakemake(copied, "seal")
    assert "predictions/ana b.yaml: sealed 20" in done.stdout, done.stderr
    assert jobs(snakemake(copied, "--dry-run")) == {"all": 1, "score_predictions": 1}
    done = snakemake(copied)
    assert "/results/predictions.html" in said(done)
    page = (copied / "results/predictions.md").read_text()
    assert page.startswith("# Predictions (generated images)")
    assert "made after the first run had started: sealed 20" in page
    assert jobs(snakemake(copied, "--dry-run")) == {}

    path.write_text(yaml.safe_dump(values | {"confidence": 0.9}))
    assert jobs(snakemake(copied, "--dry-run")) == {"all": 1, "score_predictions": 1}
    path.write_text(yaml.safe_dump(values | {"confidence": "very"}))
    refused = snakemake(copied, "--dry-run")
    message = "predictions/ana b.yaml: confidence: 'very' is not a number from 0.5"
    assert message in said(refused)
    assert jobs(snakemake(copied, "--dry-run", "results/findings.md")) == {}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("edited", "was edited by hand"),
        ("of an unknown version", "is of the unknown version 7; this code knows 1"),
        ("truncated", "is damaged"),
        ("missing", "provenance.json: is missing"),
        ("of another run", "is the record of results/runs/cifar10/cnn/adam10/nall/seed0/metrics.json"),
    ],
)
def test_what_is_not_known_to_be_ours_is_named_and_left_alone(how, message, copied):
    path = copied / RUN / "provenance.json"
    text = path.read_text()
    if how == "edited":
        path.write_text(text.replace('"lr": 0.001', '"lr": 0.5'))
    elif how == "of an unknown version":
        path.write_text(text.replace('"version": 1', '"version": 7', 1))
    elif how == "truncated":
        path.write_text(text[:300])
    elif how == "missing":
        path.unlink()
    else:
        shutil.copy(copied / RUN.replace("vit", "cnn") / "provenance.json", path)
    before = {p: p.read_bytes() for p in (copied / "results").rglob("*") if p.is_file()}
    is_whole = how == "of another run"  # for one of them, in each way that it can be met
    others = (["--dry-run"], [f"{RUN}/metrics.json"], ["results/tables/comparison.md"]) if is_whole else ()
    for arguments in ([], *others):
        done = snakemake(copied, *arguments, config={"recipes": {"adam10": {"lr": 0.5}}})
        output = said(done)
        assert done.returncode != 0, output
        assert message in output
        assert f"{RUN}/metrics.json is not known to belong to this study, and is not overwritten" in output
        assert "Traceback" not in output
    assert {p: p.read_bytes() for p in before} == before
    if not is_whole:
        return
    snakemake(copied, "--dry-run")  # rewrites config.yaml
    done = run_script("audit", "--configfile", "config.yaml", cwd=copied)
    assert done.returncode != 0
    assert "1 unknown" in done.stdout
    (copied / RUN / "metrics.json").unlink()  # as it was told to
    assert jobs(snakemake(copied, "--dry-run"))["train"] == 1
