"""What models cost: measured on a tiny model, tabulated and drawn from made-up numbers."""

import ctypes
import json

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, merge, run_script

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.errors import StudyError
from vitcnn.files import write_json
from vitcnn.results import cost as results
from vitcnn.results import tables
from vitcnn.results.figures.cost import draw
from vitcnn.training import cost
from vitcnn.training.run import train_run

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
CPU = torch.device("cpu")


def spec_of(run="cifar10/simple_cnn/adamw10/n100/seed0"):
    tiny = {"models": {"simple_cnn": {"channels": [8], "hidden": 16}}}
    short = {"recipes": {"adamw10": {"epochs": 1}}}
    return plan.run_spec(check_config(merge(merge(CONFIG, tiny), short)), plan.Run.parse(run))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The file that rule measure_cost writes of a tiny model, in a process of its own."""
    path = tmp_path_factory.mktemp("cost") / "cost.json"
    spec = {key: spec_of()[key] for key in ("dataset", "model")} | {"precision": "fp32"}
    done = run_script(
        "measure_cost", "--settings", json.dumps({"spec": spec}), "--out", path, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def test_sizes_are_those_of_a_trained_run(measured, data, tmp_path):
    train_run(spec_of(), data, tmp_path, "cpu", 1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert measured["parameters"] == metrics["num_parameters"] == 8 * 28 + 16 * (8 * 16 * 16 + 1) + 10 * 17
    assert measured["bytes_on_disk"] == (tmp_path / "model.safetensors").stat().st_size
    assert measured["flops"] == 2 * (27 * 8 * 32 * 32 + 8 * 16 * 16 * 16 + 16 * 10)


def test_what_is_measured_fits_together(measured):
    assert [one["batch"] for one in measured["passes"]] == [1, 32, 128, 512]
    for one in measured["passes"]:
        first, third = one["quartiles_seconds"]
        assert 0 < first <= one["median_seconds"] <= third
        assert one["repetitions"] >= 5
        assert one["images_per_second"] == one["batch"] / one["median_seconds"]
    assert measured["passes"][0]["median_seconds"] < measured["passes"][-1]["median_seconds"]
    # Images as floats, and what the convolution makes of them for the backward pass.
    assert measured["training"]["batch"] == 128
    assert 128 * (3 + 8) * 32 * 32 * 4 < measured["training"]["peak_memory_bytes"] < 1e9
    assert (measured["precision"], measured["threads"], measured["device"]["type"]) == ("fp32", 1, "cpu")
    assert measured["torch"] == torch.__version__
    assert (measured["joules_per_image"] is None) == (cost._read_energy(CPU) is None)


def test_passes_are_in_evaluation_mode(monkeypatch):
    seen = []

    class Model(torch.nn.Module):
        def forward(self, images):
            seen.append((len(images), self.training, torch.is_grad_enabled()))

    monkeypatch.setattr(cost, "_repeat", lambda call, **how: [call() or 1.0])
    passes, _ = cost._time_passes(Model().eval(), 4, CPU, "fp32")
    assert seen == [(n, False, False) for n in (1, 1, 32, 32, 128, 128, 512, 512)]  # warm and timed
    assert [one["images_per_second"] for one in passes] == [1, 32, 128, 512]


def test_batches_that_do_not_fit_are_left_out(monkeypatch):
    class Model(torch.nn.Module):
        def forward(self, images):
            if len(images) > 32:
                raise torch.OutOfMemoryError("too many")

    monkeypatch.setattr(cost, "_repeat", lambda call, **how: [call() or 1.0])
    assert [one["batch"] for one in cost._time_passes(Model(), 4, CPU, "fp32")[0]] == [1, 32]
    tried = []

    def train(spec, batch, device, precision):
        tried.append(batch)
        if batch > 32:
            raise torch.OutOfMemoryError("too many")
        return "model", 7

    monkeypatch.setattr(cost, "_train", train)
    assert cost._train_largest({}, CPU, "fp32") == ("model", {"batch": 32, "peak_memory_bytes": 7})
    assert tried == [128, 64, 32]


@pytest.mark.parametrize(
    ("call_seconds", "least", "expected"), [(0.01, 5, 50), (0.03, 5, 30), (0.1, 5, 15), (4, 5, 5), (4, 1, 1)]
)
def test_how_often_a_pass_is_timed(call_seconds, least, expected, monkeypatch):
    now = [0.0]

    def call():
        now[0] += call_seconds

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    taken = cost._repeat(call, least=least, most=30, seconds=0.5, longest=1.5 if least > 1 else 0)
    assert len(taken) == pytest.approx(expected, abs=1)
    assert taken[0] == pytest.approx(call_seconds)


def test_energy_is_that_of_the_processors_packages_or_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    assert cost._read_energy(CPU) is None
    for zone, name, joules in (
        ("0", "package-0", 5),
        ("1", "package-1", 7),
        ("0:0", "core", 3),
        ("2", "psys", 99),
    ):
        folder = tmp_path / f"intel-rapl:{zone}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{joules * 1_000_000}\n")
    assert cost._read_energy(CPU) == 12
    counter = tmp_path / "intel-rapl:0" / "energy_uj"

    def call():
        counter.write_text(str(int(counter.read_text()) + 3_000_000))

    monkeypatch.setattr(cost, "_repeat", lambda call, **how: [call() or 1.0, call() or 1.0])
    assert cost._measure_energy(call, CPU, 6) == 0.5  # 2 calls of 3 J and 6 images
    assert cost._measure_energy(lambda: counter.write_text("0"), CPU, 6) is None  # it began again
    counter.unlink()
    assert cost._measure_energy(call, CPU, 6) is None


def test_energy_of_a_gpu_is_that_of_nvml(monkeypatch):
    """Of the GPU with the UUID of torch's device, in joules; absent if NVML says no to any of the calls."""
    asked = []

    class Nvml:
        refuses = ""

        def __init__(self, name):
            assert name == "libnvidia-ml.so.1"

        def nvmlInit_v2(self):
            return 0

        def nvmlDeviceGetHandleByUUID(self, name, handle):
            asked.append(name)
            return 0

        def nvmlDeviceGetTotalEnergyConsumption(self, handle, millijoules):
            millijoules._obj.value = 12_500
            return 3 if self.refuses else 0

    class Properties:
        uuid = "8a5e"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    monkeypatch.setattr(ctypes, "CDLL", Nvml)
    assert cost._read_energy(torch.device("cuda", 0)) == 12.5
    assert asked == [b"GPU-8a5e"]
    monkeypatch.setattr(Nvml, "refuses", "not supported")
    assert cost._read_energy(torch.device("cuda", 0)) is None
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert cost._read_energy(torch.device("cuda", 0)) is None


# ---------------------------------------------------------------------------------------------

TITLES = {
    "datasets": {"cifar10": "CIFAR-10", "imagenet200": "ImageNet-200"},
    "models": {"vit": "ViT", "cnn": "CNN", "vit_p": "ViT of the CNN's size"},
}
PAIRS = [
    ("cifar10", "vit"),
    ("cifar10", "cnn"),
    ("cifar10", "vit_p"),
    ("imagenet200", "vit"),
    ("imagenet200", "cnn"),
]


def costs_in(folder, joules=None):
    paths = []
    for place, (dataset, model) in enumerate(PAIRS, start=1):
        passes = [
            {
                "batch": batch,
                "repetitions": 30,
                "median_seconds": 0.001 * batch * place,
                "quartiles_seconds": [0.0009 * batch * place, 0.0012 * batch * place],
                "images_per_second": 1000 / place,
            }
            for batch in ((1, 32, 128, 512) if model != "vit_p" else (1, 32))
        ]
        paths.append(folder / f"{dataset}_{model}.json")
        found = {
            "spec": {"dataset": {"name": dataset}, "model": {"name": model}},
            "parameters": {"vit": 1_205_642, "cnn": 175_258, "vit_p": 175_738}[model],
            "flops": 20_000_000 * place,
            "backward_flops": 40_000_000 * place,
            "bytes_on_disk": 700_000 * place,
            "passes": passes,
            "training": {"batch": 128, "peak_memory_bytes": 150_000_000 * place},
            "joules_per_image": joules,
            "device": {"type": "cpu", "name": "A CPU"},
            "threads": 1,
            "precision": "fp32",
            "torch": "2.15.0",
        }
        write_json(paths[-1], found)
    return paths


def runs():
    rows = []
    for experiment, accuracy, pairs in (
        ("comparison", "final", PAIRS[:2] + PAIRS[3:]),
        ("fair", "selected", PAIRS[1:3]),
    ):
        for dataset, model in pairs:
            for seed in (0, 1, 2):
                value = {"vit": 60, "cnn": 80, "vit_p": 70}[model] - 30 * (dataset == "imagenet200") + seed
                rows.append(
                    {
                        "experiment": experiment,
                        "dataset": dataset,
                        "model": model,
                        "seed": seed,
                        "train_size": "all",
                        "recipe": "adam10",
                    }
                    | {"dataset_title": TITLES["datasets"][dataset], "model_title": TITLES["models"][model]}
                    | {
                        "generated": False,
                        "gap": None,
                        "final": 1,
                        "selected": 2,
                        accuracy: value + 5 * (experiment == "fair"),
                    }
                    | {"train_seconds": {"vit": 900, "cnn": 300, "vit_p": 400}[model] + seed}
                )
    return pd.DataFrame(rows)


SETTINGS = {
    "title": "What accuracy costs",
    "experiments": {"comparison": "ViT and CNN on three datasets", "fair": "A ViT and a CNN of equal size"},
    "accuracy": {"comparison": "final", "fair": "selected"},
    "looks": {"vit": 0, "cnn": 1, "vit_p": 4},
    "dpi": 80,
    "band": "sd",
}


def test_the_table_has_the_numbers_of_the_files(tmp_path):
    table = results.read_costs(costs_in(tmp_path), TITLES).set_index(["dataset", "model"])
    row = table.loc["imagenet200", "vit"]
    assert (row["parameters"], row["flops"], row["backward_flops"]) == (1_205_642, 80_000_000, 160_000_000)
    assert (row["seconds_32"], row["seconds_32_q1"], row["seconds_32_q3"]) == pytest.approx(
        (0.128, 0.1152, 0.1536)
    )
    assert row["images_per_second_512"] == 250
    assert pd.isna(table.loc[("cifar10", "vit_p"), "seconds_512"])
    with pytest.raises(StudyError, match=r"cost\.experiments: none of them is switched on"):
        results.read_costs([], TITLES)


def test_the_table_for_people(tmp_path):
    table = results.read_costs(costs_in(tmp_path), TITLES)
    shown = results.for_people(table).set_index(["Dataset", "Model"])
    row = shown.loc["CIFAR-10", "CNN"]
    assert (
        row["Parameters (M)"] == "0.18" and row["MFLOP forward"] == "40.0" and row["MFLOP backward"] == "80.0"
    )
    assert row["ms, batch 1"] == "2.00 (1.80–2.40)" and row["ms, batch 32"] == "64.00 (57.60–76.80)"
    assert row["ms, batch 128"] == "256 (230–307)" and row["ms, batch 512"] == "1,024 (922–1,229)"
    assert (
        row["img/s, batch 512"] == "500"
        and row["Training memory (MB)"] == "300"
        and row["Disk (MB)"] == "1.40"
    )
    without = shown.loc[("CIFAR-10", "ViT of the CNN's size")]
    assert without["img/s, batch 512"] == without["ms, batch 512"] == "–"
    assert "no other of this workflow's invocation ran" in results.note(table)
    assert "Energy (mJ/img)" not in shown
    assert "No counter of energy" in results.note(table)
    assert "A CPU, 1 thread, fp32, torch 2.15.0" in results.note(table)
    with_energy = results.read_costs(costs_in(tmp_path, joules=0.0123), TITLES)
    assert results.for_people(with_energy)["Energy (mJ/img)"].tolist() == ["12.30"] * 5
    assert "No counter of energy" not in results.note(with_energy)
    assert "<td>12.30</td>" in tables.to_html(
        results.for_people(with_energy), "Cost", results.note(with_energy)
    )


def test_a_point_is_the_mean_over_seeds_of_the_accuracy_that_its_experiment_quotes(tmp_path):
    figure = draw(results.read_costs(costs_in(tmp_path), TITLES), runs(), SETTINGS)
    assert len(figure.axes) == 2 * 3
    points = [
        [(float(c.lines[0].get_xdata()[0]), float(c.lines[0].get_ydata()[0])) for c in panel.containers]
        for panel in figure.axes
    ]
    assert points[0] == [(1_205_642, 61), (175_258, 81), (175_258, 86), (175_738, 76)]
    assert points[1] == [(20e6, 61), (40e6, 81), (40e6, 86), (60e6, 76)]
    assert points[2] == [(901, 61), (301, 81), (301, 86), (401, 76)]
    assert points[3] == [(1_205_642, 31), (175_258, 51)]
    marks = [(c.lines[0].get_marker(), c.lines[0].get_fillstyle()) for c in figure.axes[0].containers]
    assert marks == [("o", "full"), ("s", "full"), ("s", "none"), ("v", "none")]
    assert all(panel.get_xscale() == "log" for panel in figure.axes)
    labels = [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]
    assert labels[:3] == [*TITLES["models"].values()]
    epochs = ("last epoch", "selected epoch")
    assert labels[3:] == [f"{t}, {e}" for t, e in zip(SETTINGS["experiments"].values(), epochs, strict=True)]
    assert figure.axes[0].get_ylabel() == "CIFAR-10\nTest accuracy (%), epoch: see legend"
    assert figure.axes[2].get_xlabel() == "Seconds of training\n(runs may have shared the machine)"
    assert "mean over 3 seeds" in figure._supxlabel.get_text()


def test_one_experiment_has_its_epoch_on_the_axis(tmp_path):
    settings = SETTINGS | {"experiments": {"fair": "Fair"}}
    figure = draw(results.read_costs(costs_in(tmp_path), TITLES), runs(), settings)
    assert figure.axes[0].get_ylabel() == "Test accuracy, selected epoch (%)"


def test_two_recipes_of_a_model_are_two_points(tmp_path):
    both = pd.concat([runs(), runs().assign(recipe="sgd10", final=10)])
    figure = draw(results.read_costs(costs_in(tmp_path), TITLES), both, SETTINGS)
    accuracies = [float(c.lines[0].get_ydata()[0]) for c in figure.axes[0].containers]
    assert accuracies[:4] == [61, 10, 81, 10]
    recipes = {text.get_text() for text in figure.axes[0].texts}
    assert recipes == {*runs()["recipe"], "sgd10"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cost": {"experiments": ["curve"]}},
            "cost.experiments: curve is no experiment; did you mean curves?",
        ),
        ({"cost": {"experiments": ["ladder"]}}, "cost.experiments: ladder is optional"),
        (
            {"representations": {"experiments": ["ladder"]}},
            "representations.experiments: ladder is optional",
        ),
        (
            {"experiments": {"cost": CONFIG["experiments"]["curves"]}},
            "experiments.cost: a figure or table has this name; give the experiment another",
        ),
        (
            {"report": {"figures": {"cost": {"kind": "curves", "experiments": ["curves"]}}}},
            "report.figures.cost: another figure has this name",
        ),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(StudyError) as error:
        check_config(merge(CONFIG, change))
    assert message in str(error.value)


def test_what_is_switched_off_costs_nothing():
    config = check_config(merge(CONFIG, {"experiments": {"fair": None}}))
    assert plan.cost_experiments(config) == ["comparison", "curves"]
    assert plan.cost_experiments(check_config(merge(CONFIG, {"cost": None}))) == []
