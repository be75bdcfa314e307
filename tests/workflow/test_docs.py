"""What the README and the pages of docs/ say can be typed, linked and read."""

import re
import shlex

import pytest
import yaml
from conftest import ROOT, WARM, copy_repository, environment, jobs, said

from vitcnn.predictions import askable, read_predictions

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
# Shown by tests of their own: what needs finished results, another file or another folder.
ELSEWHERE = ("--report", "--list", "NAME")


def blocks(page, language):
    """Return the fenced blocks of a page in that language."""
    return [text for found, text in FENCE.findall((ROOT / page).read_text()) if found == language]


def commands():
    """Return each command of Snakemake on the pages, once."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        lines = [
            line for language, block in FENCE.findall(text) if language == "sh" for line in block.splitlines()
        ]
        for line in [*lines, *re.findall(r"`(snakemake[^`]*)`", FENCE.sub("", text))]:
            command = line.removeprefix(".venv/bin/")
            if re.match(r"snakemake( |$)", command) and not any(word in command for word in ELSEWHERE):
                found.setdefault(command, page.name)
    return found


def mine(page):
    """Return the first block of a page, else of the README, that is a configuration of one's own."""
    found = [
        text
        for where in (f"docs/{page}", "README.md")
        if (ROOT / where).exists()
        for text in blocks(where, "yaml")
    ]
    return next(text for text in found if "experiments:" in text)


EVERYTHING = ("snakemake", "snakemake runs", "snakemake figures")  # of which the README says how many runs
# A target and no option: planned together.
TOGETHER = [c for c in commands() if re.fullmatch(r"snakemake [^- ]\S*", c) and c not in EVERYTHING]


def dry_run(folder, *arguments):
    """Return what a command with these arguments would do in `folder`, by default with the default profile."""
    profile = () if "--workflow-profile" in arguments else ("--workflow-profile", "profiles/default")
    command = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), *arguments, *profile]
    return WARM.run([*command, "--directory", str(folder), "--dry-run"], ROOT, environment())


def test_every_target_is_planned(tmp_path):
    """All in one dry run: each rule is among the jobs, and each file is made by one."""
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions/ana.yaml").write_text(blocks("docs/lesson.md", "yaml")[0])
    (tmp_path / "predictions/seals.json").write_text('{"version": 1, "seals": []}')
    targets = [command.split()[1] for command in TOGETHER]
    assert len(targets) > 15
    done = dry_run(tmp_path, *targets)
    made = re.findall(r"[^ ,]+", " ".join(re.findall(r"^    output: (.*)$", said(done), re.M)))
    assert set(targets) <= {*jobs(done), *made}


@pytest.mark.parametrize("command", [c for c in commands() if c not in TOGETHER])
def test_a_command_plans_what_it_names(command, tmp_path):
    arguments = shlex.split(command)[1:]
    if "mine.yaml" in command:
        (tmp_path / "mine.yaml").write_text(mine(commands()[command]))
        arguments[arguments.index("mine.yaml")] = str(tmp_path / "mine.yaml")
    done = dry_run(tmp_path, *arguments)
    assert sum(jobs(done).values()) > 0
    if command in EVERYTHING:
        assert f"everything: {jobs(done)['train']} runs" in (ROOT / "README.md").read_text()


def test_scripts_take_the_options_that_the_pages_give_them():
    text = "\n".join(page.read_text() for page in PAGES)
    commands = re.findall(r"\bpython ((?:workflow/scripts|tests/speed)/\w+\.py)([^`\n]*)", text)
    assert len(commands) >= 10
    for script, words in commands:
        takes = (ROOT / script).read_text() + (ROOT / "workflow/vitcnn/cli.py").read_text()
        for option in re.findall(r"--[a-z-]+", words):
            assert f'"{option}"' in takes, f"{script} has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]*)(?:#[\w-]+)?\)", page.read_text()):
        assert not target or target.startswith("https://") or (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^):]*)#([\w-]+)\)", page.read_text()):
        text = ((page.parent / target) if target else page).read_text()
        heads = [
            re.sub(r"[^\w -]", "", head).lower().replace(" ", "-")
            for head in re.findall(r"^#+ (.*)$", text, re.M)
        ]
        assert anchor in heads, f"{target}#{anchor}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


@pytest.fixture
def repository(tmp_path):
    """A copy of the workflow, to change."""
    return copy_repository(tmp_path / "path/to/this/repository")


def plan(folder, snakefile, *arguments):
    command = ["snakemake", "--snakefile", str(snakefile), "--workflow-profile", "none", "--cores", "1", "-n"]
    return WARM.run([*command, "--directory", str(folder), *arguments], folder, environment())


@pytest.mark.parametrize(
    ("page", "number", "targets", "trained"),
    [
        ("README.md", 0, ["comparison"], 6),
        ("docs/own-study.md", 0, ["decay"], 6),
        ("docs/own-study.md", 1, ["comparison"], 30),
        ("docs/configuration.md", 0, ["comparison"], 30),
        ("docs/images-of-your-own.md", 0, [], 24),
    ],
)
def test_an_example_of_a_configuration(page, number, targets, trained, repository, tmp_path):
    configuration = yaml.safe_load(blocks(page, "yaml")[number])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(configuration))
    (repository / "workflow/vitcnn/models/mlp.py").write_text(blocks("docs/own-study.md", "python")[0])
    done = plan(tmp_path, repository / "Snakefile", "--configfile", "mine.yaml", "--", *targets)
    assert jobs(done)["train"] == trained


def test_the_examples_of_a_prediction(default_config, tmp_path):
    examples = blocks("docs/lesson.md", "yaml")
    for number, text in enumerate(examples):
        (tmp_path / f"{number}.yaml").write_text(text)
    first, second = read_predictions(sorted(tmp_path.iterdir()), askable(default_config))
    assert (first.experiment, second.models) == ("curves", ("vit_p", "cnn"))
    sizes = default_config["experiments"]["data_efficiency"]["train_sizes"]
    assert f"of `data_efficiency`: {', '.join(map(str, sizes))} (" in (ROOT / "docs/lesson.md").read_text()


def test_the_example_of_a_host_workflow(repository, tmp_path):
    (tmp_path / "Snakefile").write_text(blocks("docs/own-study.md", "python")[1])
    assert jobs(plan(tmp_path, tmp_path / "Snakefile", "best"))["best"] == 1
