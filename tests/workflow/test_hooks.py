"""Beside records that decide, Snakemake is Snakemake: for users' rules, as a module, and in what it prints."""

import asyncio
import gc
import inspect
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import vitcnn_hooks
from conftest import ROOT, WARM, environment, made_once, read, said, start_snakemake
from test_staleness import ALL_SHOWN, EVERY_RUN, RUN, Study, finished_study, runs_with
from vitcnn_hooks import _NO_REASON, DAG, PersistenceBase, Reason, Workflow

RULE = """
rule mine:
    input:
        "results/tables/comparison.csv",
    output:
        "mine.txt",
    params:
        words="{words}",
    shell:
        "{shell}"
"""
COPY = "cp {input} {output}; echo {params.words} >> {output}"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return finished_study(tmp_path_factory)


@pytest.fixture
def study(finished, tmp_path):
    """A copy of the finished study."""
    return finished.copied(tmp_path)


@pytest.fixture(scope="session")
def with_rule(finished, tmp_path_factory):
    """The finished study with a rule of the user's own, which was run."""

    def make(base):
        study = finished.copied(base)
        write_rule(study)
        assert study.snakemake("mine.txt").returncode == 0

    base = made_once(tmp_path_factory, "hosted", make)
    return Study(base / "repository", base / "work", finished.config)


@pytest.fixture
def hosted(with_rule, tmp_path):
    """A copy of the study with a user's rule."""
    return with_rule.copied(tmp_path)


def write_rule(study, words="mine", shell=COPY):
    snakefile = study.repository / "Snakefile"
    text = snakefile.read_text().partition("\nrule mine:")[0]
    snakefile.write_text(text + RULE.format(words=words, shell=shell))


def test_a_users_rule_is_made_once(hosted):
    assert "Nothing to be done" in said(hosted.snakemake("mine.txt"))


def test_a_users_rule_is_made_again_when_its_shell_changes(hosted):
    write_rule(hosted, shell=COPY.replace("cp", "cat {input} >"))
    assert "Code has changed since last execution" in said(hosted.snakemake("-n", "mine.txt"))


def test_a_users_rule_is_made_again_when_its_params_change(hosted):
    write_rule(hosted, words="yours")
    assert "Params have changed since last execution" in said(hosted.snakemake("-n", "mine.txt"))


def test_a_users_rule_is_made_again_when_its_input_changes(hosted):
    hosted.change({"report": {"titles": {"comparison": "Another"}}, "models": {"cnn": {"title": "ResNet"}}})
    assert hosted.snakemake("results/tables/comparison.csv").returncode == 0
    assert "Updated input files: results/tables/comparison.csv" in said(hosted.snakemake("-n", "mine.txt"))


def test_a_users_rule_follows_what_is_stale_above_it(hosted):
    hosted.change({"recipes": {"adam10": {"lr": 0.5}}})
    write_rule(hosted, words="yours")
    listed = said(hosted.snakemake("-n", "mine.txt"))
    assert "rule mine:" in listed
    assert listed.count("rule train:") == len(runs_with("adam10"))


def test_a_users_rule_killed_in_mid_write_is_refused_as_incomplete(hosted):
    write_rule(hosted, shell="echo half > {output}; touch begun; sleep 600")
    command = ["--snakefile", hosted.repository / "Snakefile", "--workflow-profile", "none", "--cores", "1"]
    command += ["mine.txt", "--configfile", hosted.folder / "config.yaml"]
    process = start_snakemake(*command, cwd=hosted.folder, out=hosted.folder / "out.txt")
    while not (hosted.folder / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = hosted.snakemake("mine.txt")
    assert again.returncode != 0
    assert "IncompleteFilesException" in said(again)
    assert (hosted.folder / "mine.txt").read_text() == "half\n"
    write_rule(hosted)
    assert hosted.snakemake("mine.txt", "--rerun-incomplete").returncode == 0
    assert (hosted.folder / "mine.txt").read_text().endswith("mine\n")


def test_reasons_are_in_the_records_words(study):
    study.change({"recipes": {"adam10": {"lr": 0.5}}})
    dry = said(study.snakemake("-n"))
    assert "reason: recipe.lr: 0.001 → 0.5" in dry
    assert "recipe.lr: 0.001 → 0.5:\n        train" in dry.split("Reasons:")[1]
    assert "Forced execution" not in dry
    assert "lr" not in said(study.snakemake("-n", "--quiet"))


def test_commands_can_be_pasted(study):
    """What -p prints runs in the shell, and does what the job would do."""
    metrics = study.folder / "results/runs" / RUN / "metrics.json"
    before = metrics.read_bytes()
    metrics.unlink()
    printed = said(study.snakemake("-n", "-p", str(metrics.relative_to(study.folder))))
    (command,) = re.findall(r"^Shell command: (.*scripts/train\.py .*)$", printed, re.M)
    assert shlex.split(command)[0].endswith("/python")
    done = subprocess.run(["bash", "-c", command], cwd=study.folder, env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert metrics.read_bytes() == before


def test_touch_is_refused_in_words(study):
    done = study.snakemake("--touch")
    assert done.returncode != 0
    assert "dates decide nothing here" in said(done)


def audit(study, *arguments):
    command = [sys.executable, study.repository / "workflow/scripts/audit.py", *arguments]
    command += ["--configfile", study.folder / "config.yaml"]
    return subprocess.run(command, cwd=study.folder, env=environment(), capture_output=True, text=True)


def test_a_change_of_code_can_be_accepted_and_one_of_a_setting_cannot(study):
    study.edit("workflow/vitcnn/training/trainer.py", "loss.backward()", "(1.0 * loss).backward()")
    assert len(study.plans()) > len(runs_with("cifar10"))
    because = ("--because", "a factor of one")
    absent = audit(study, "--accept", RUN.replace("seed0", "seed99"), *because)
    assert absent.returncode == 1 and "seed99/metrics.json: is not of this study" in absent.stderr
    one = audit(study, "--accept", RUN, *because)
    assert one.stdout == "Accepted: 1\n", one.stderr
    assert RUN not in study.plans()
    record = read(study.folder / "results/runs" / RUN / "provenance.json")
    assert record["accepted"][0]["because"] == "a factor of one"
    assert list(record["accepted"][0]["before"]["code"]) == ["training/trainer.py: Trainer._train_step"]
    assert audit(study, "--accept", "all", *because).returncode == 0
    assert study.plans() == ALL_SHOWN  # they say so
    assert study.makes() == ALL_SHOWN
    for page in ("tables/comparison.md", "tables/curves.md", "findings.md"):
        text = (study.folder / "results" / page).read_text()
        assert "runs stand although code or packages changed" in text, page
    audited = audit(study).stdout
    assert re.search(rf"^{len(EVERY_RUN)} accepted \(", audited, re.M) and "a factor of one" in audited
    study.change({"recipes": {"adam10": {"lr": 0.5}}})
    study.plans()
    refused = audit(study, "--accept", RUN, *because)
    assert refused.returncode == 1
    assert "cannot be accepted: recipe.lr: 0.001 → 0.5. No record was changed" in refused.stderr


def test_a_host_workflow_takes_the_study_as_a_module(finished, tmp_path):
    """Dry run, run, what is finished is up to date, and the host's own rules keep their triggers."""
    work = shutil.copytree(finished.folder, tmp_path / "work")
    (tmp_path / "host").mkdir()
    snakefile = tmp_path / "host/Snakefile"
    text = f'''
module study:
    snakefile: "{finished.repository}/Snakefile"
    config: config

use rule * from study as study_*

use rule train from study as study_train with:
    priority: 7

rule recorded:
    output: txt="recorded.txt", provenance="recorded.json"
    params: command="touch", settings="none"
    shell: "{{params.command}} {{output}}"
''' + RULE.format(words="mine", shell=COPY)
    snakefile.write_text(text)

    def run(*arguments):
        command = ["snakemake", "--snakefile", str(snakefile), "--workflow-profile", "none", "--cores", "2"]
        configfiles = [finished.repository / "config.yaml", work / "config.yaml"]
        files = ["--configfile", *map(str, configfiles)]
        return WARM.run([*command, "--directory", str(work), *arguments, *files], work, environment())

    for record in work.rglob(f"{RUN}/metrics.json"):
        record.unlink()
    listed = said(run("-n", "mine.txt"))
    assert listed.count("rule study_train:") == 1 and listed.count("priority: 7") == 1
    done = run("mine.txt", "study_all", "recorded.txt")
    assert done.returncode == 0, said(done)
    assert "Nothing to be done" in said(run("mine.txt"))
    assert "Nothing to be done" in said(run("-n", "study_all"))
    snakefile.write_text(text.replace('words="mine"', 'words="yours"'))
    assert "Params have changed" in said(run("-n", "mine.txt"))
    assert "train" not in said(run("-n", "mine.txt")).split("Job stats:")[1]


def test_a_module_with_a_prefix_is_refused_with_the_reason(finished, tmp_path):
    (tmp_path / "Snakefile").write_text(
        f'''
module study:
    snakefile: "{finished.repository}/Snakefile"
    prefix: "sub"
    config: config

use rule * from study as study_*
'''
    )
    command = ["snakemake", "--snakefile", str(tmp_path / "Snakefile"), "--workflow-profile", "none", "-n"]
    files = ["--configfile", str(finished.repository / "config.yaml"), str(finished.folder / "config.yaml")]
    done = WARM.run([*command, "--directory", str(tmp_path), *files], tmp_path, environment())
    assert done.returncode != 0
    assert "prefix: is not supported" in said(done)


def test_snakemake_decides_after_the_graph_is_whole():
    """DAG.check_incomplete is where our verdicts enter: after DAG.cleanup, before DAG.update_needrun."""
    source = inspect.getsource(DAG.init)
    order = [source.index(f"self.{name}(") for name in ("cleanup", "check_incomplete", "update_needrun")]
    assert order == sorted(order)


def test_snakemake_keeps_reasons_and_ancient_files_where_we_enter_them():
    source = inspect.getsource(DAG.update_needrun)
    assert "f.is_ancient" in source
    assert "self.reason" in source
    assert "self._reason[job]" in inspect.getsource(DAG.reason)
    assert {"forced", "_missing_output", "finished"} <= set(Reason.__slots__)


def test_snakemake_asks_its_notes_by_the_names_we_hide():
    source = inspect.getsource(DAG.update_needrun) + inspect.getsource(DAG.incomplete_files)
    for name in (*_NO_REASON, "incomplete"):
        assert f".{name}(" in source, name
        assert hasattr(PersistenceBase, name), name


def test_snakemake_expands_params_after_the_verdicts_which_commands_depend_on(study):
    study.change({"recipes": {"adam10": {"lr": 0.5}}})
    printed = said(study.snakemake("-n", "-p", f"results/runs/{RUN}/metrics.json"))
    assert " --redo " in re.search(r"^Shell command: .*scripts/train\.py .*$", printed, re.M)[0]


def test_a_dry_run_finds_a_command_of_a_users_rule_that_cannot_be_formatted(study):
    write_rule(study, shell="{params.absent}")
    done = study.snakemake("-n", "mine.txt")
    assert done.returncode != 0 and "has no attribute 'absent'" in said(done)


@pytest.mark.parametrize(("shown", "formatted"), [(False, 0), (True, 1)])
def test_a_dry_run_formats_our_commands_only_where_it_shows_them(monkeypatch, shown, formatted):
    asked = []
    monkeypatch.setattr(vitcnn_hooks, "_shell_command", asked.append)
    settings = SimpleNamespace(printshellcmds=shown)
    dag = SimpleNamespace(workflow=SimpleNamespace(dryrun=True, output_settings=settings))
    rule = SimpleNamespace(params={"command": SimpleNamespace(script="train")})
    vitcnn_hooks._shown_command(SimpleNamespace(dag=dag, rule=rule, output=SimpleNamespace(provenance="")))
    assert len(asked) == formatted


# What Snakemake asks conda before it would make an environment.
CONDA = """#!/bin/sh
case "$*" in
    --version) echo "conda 24.11.1" ;;
    "info --json") echo '{"conda_version": "24.11.1", "platform": "linux-64", "conda_prefix": "/", "root_prefix": "/"}' ;;
    config*) echo '{"get": {"channel_priority": "strict"}}' ;;
esac
"""


def test_with_conda_a_dry_run_names_the_environments_of_our_rules(tmp_path):
    (tmp_path / "conda").write_text(CONDA)
    (tmp_path / "conda").chmod(0o755)
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--sdm", "conda"]
    command += ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment() | path, capture_output=True, text=True)
    assert done.returncode == 0, said(done)
    named = re.findall(r"Conda environment .*/envs/(\w+)\.yaml will be created", said(done))
    assert sorted(named) == ["data", "results", "train"]


def test_a_conda_function_of_a_host_gets_the_params(study):
    rules = study.repository / "workflow/rules/train.smk"
    before, train, after = rules.read_text().partition("rule train:")
    given = 'lambda wildcards, params: params.folder and "../../envs/train.yaml"'
    rules.write_text(before + train + after.replace('"../../envs/train.yaml"', given, 1))
    assert given in rules.read_text()
    done = study.snakemake("-n")
    assert done.returncode == 0, said(done)


def test_garbage_is_collected_again_once_the_graph_is_whole(monkeypatch):
    async def ignore(dag):
        pass

    monkeypatch.setattr(vitcnn_hooks, "_check_incomplete", ignore)
    monkeypatch.setattr(DAG, "check_incomplete", ignore)  # restored afterwards
    try:
        vitcnn_hooks.install(False, None, None)
        assert not gc.isenabled()
        of_a_job = SimpleNamespace(is_main_process=False, remote_exec=False)
        asyncio.run(DAG.check_incomplete(SimpleNamespace(workflow=of_a_job)))
        assert gc.isenabled()
        assert gc.get_freeze_count()
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_hooks_are_the_only_touch_of_snakemakes_internals():
    private = re.compile(
        r"workflow\.(_dag|persistence|global_resources|dag_settings)\b|GroupJobFactory|remove_existing_output"
    )
    touching = {
        path.name
        for path in (
            *(ROOT / "workflow").rglob("*.smk"),
            *(ROOT / "workflow").rglob("*.py"),
            ROOT / "Snakefile",
        )
        if private.search(path.read_text())
    }
    assert touching == {"vitcnn_hooks.py"}
    rules = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    read_in_rules = {
        name for path in rules for name in re.findall(r"\bworkflow\.(\w+)(?!\w*\")", path.read_text())
    }
    assert read_in_rules == {
        "cores", "current_basedir", "deployment_settings", "local_exec", "main_snakefile", "nodes",
        "output_settings", "overwrite_configfiles", "rundir"
    }  # fmt: skip
    assert read_in_rules <= {*dir(Workflow), *Workflow.__dataclass_fields__}


def test_unit_tests_are_generated_from_what_notemp_keeps(finished, tmp_path):
    """In a folder of the repository: Snakemake names the Snakefile from there."""
    repository = shutil.copytree(finished.repository, tmp_path / "repository")
    demo = ["snakemake", "--workflow-profile", "profiles/demo", "--cores", "2", "--notemp"]

    def run(*arguments):
        done = WARM.run([*demo, *arguments], repository, environment())
        assert done.returncode == 0, said(done)

    manifest = "resources/cifar10/packed/manifest.json"
    run(manifest)
    assert (repository / "demo/resources/cifar10/decoded/train_images.npy").exists()
    run("--generate-unit-tests", ".tests/unit", "--", manifest)
    made = {path.name for path in (repository / "demo/.tests/unit").glob("test_*.py")}
    assert {"test_fetch_dataset.py", "test_validate_images.py", "test_pack_dataset.py"} <= made
