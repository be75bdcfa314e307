"""The training loop: repeatable, correct in its numbers, and clear when it cannot train."""

import copy
import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from conftest import ROOT, SMALL, merge, read
from safetensors.torch import load_file

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.data.augmentation import augment, look_up, normalize, normalized_values
from vitcnn.data.mixing import mix
from vitcnn.data.packed import load_packed
from vitcnn.errors import StudyError
from vitcnn.files import digest, write_json
from vitcnn.models import create_model
from vitcnn.schema import resolve
from vitcnn.training import devices, loop, trainer
from vitcnn.training.optimizers import LossScale
from vitcnn.training.precision import CastWeights
from vitcnn.training.run import describe_metrics, train_run

sys.path.insert(0, str(ROOT / "tests/speed"))
from rounded import RoundedProducts

CONFIG = check_config(merge(yaml.safe_load((ROOT / "config.yaml").read_text()), SMALL))


def spec_of(name="cifar10/vit/adam10/n200/seed0", **recipe):
    spec = copy.deepcopy(plan.run_spec(CONFIG | {"precision": "fp32"}, plan.Run.parse(name)))
    spec["recipe"] |= recipe
    return spec


def run(spec, data, folder, threads=1):
    train_run(spec, data, folder, "cpu", threads)
    return read(folder / "metrics.json")


@pytest.mark.parametrize("model", ["vit", "cnn", "simple_vit", "simple_cnn"])
def test_the_same_seed_gives_the_same_bytes(model, data, tmp_path):
    spec = spec_of(f"cifar10/{model}/adamw10/n200/seed3")
    for side in "ab":
        run(spec, data, tmp_path / side)
    for name in ("metrics.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = run(spec | {"seed": 4}, data, tmp_path / "c")
    assert other["history"] != read(tmp_path / "a" / "metrics.json")["history"]


def test_what_a_run_leaves(data, tmp_path):
    metrics = run(spec_of(), data, tmp_path)
    runtime = read(tmp_path / "runtime.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint",
        "metrics.json",
        "model.safetensors",
        "predictions.npz",
        "runtime.json",
    ]
    assert metrics["spec_digest"] == digest(spec_of())
    assert (metrics["train_images"], metrics["val_images"], metrics["test_images"]) == (200, 0, 400)
    assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2]
    assert metrics["history"][0]["val_accuracy"] is None
    tested = [epoch["test_accuracy"] for epoch in metrics["history"]]
    assert metrics["accuracy"] == {"final": tested[-1], "best": max(tested), "selected": None}
    assert runtime["train_seconds"] == pytest.approx(sum(runtime["epoch_seconds"]))
    assert runtime["inference_ms_per_image"] == pytest.approx(runtime["evaluation_seconds"][-1] * 1000 / 400)
    assert (runtime["threads"], runtime["device"]["type"]) == (1, "cpu")
    with np.load(tmp_path / "predictions.npz") as predictions:
        hits = predictions["logits"].argmax(1) == predictions["labels"]
        assert 100 * hits.mean() == pytest.approx(tested[-1])
        correct = np.unpackbits(predictions["correct"], axis=1, count=400)
        assert (100 * correct.mean(1)).tolist() == pytest.approx(tested)
        assert (correct[-1] == hits).all()
        assert sorted(predictions) == ["correct", "labels", "logits"]
    model = create_model(spec_of())
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = torch.from_numpy(load_packed(data).test.images[:50])
    logits = model.eval()((images.float() / 255 - 0.5) / 0.5)
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert np.allclose(logits.detach(), predictions["logits"][:50], atol=1e-4)


def test_the_hold_out_is_not_trained_on_and_selects_the_epoch(data, tmp_path):
    packed = load_packed(data)
    spec = spec_of("cifar10/vit/adam10/nall/seed0", hold_out=True, epochs=3)
    training, validation = loop.split_rows(spec, packed)
    assert (len(training), len(validation)) == (900, 100)
    assert not set(training) & set(validation)
    assert set(validation) == set(np.flatnonzero(packed.hold_out))
    metrics = run(spec, data, tmp_path)
    best = max(metrics["history"], key=lambda epoch: epoch["val_accuracy"])
    assert metrics["accuracy"]["selected"] == best["test_accuracy"]
    assert (metrics["train_images"], metrics["val_images"]) == (900, 100)
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert (predictions["val_labels"] == packed.train.labels[validation]).all()
        hits = predictions["val_logits"].argmax(1) == predictions["val_labels"]
        assert 100 * hits.mean() == pytest.approx(metrics["history"][-1]["val_accuracy"])
    training, validation = loop.split_rows(spec_of("cifar10/vit/adam10/nall/seed0"), packed)
    assert (len(training), len(validation)) == (1000, 0)


def test_the_loss_is_the_mean_over_batches_as_in_the_notebooks(data, monkeypatch):
    """300 images in batches of 128: the last, smaller batch counts as much as the others."""
    seen = []
    cross_entropy = trainer.F.cross_entropy

    def note(logits, labels, **options):
        loss = cross_entropy(logits, labels, **options)
        seen.append((len(labels), loss.item(), int((logits.argmax(1) == labels).sum())))
        return loss

    monkeypatch.setattr(trainer.F, "cross_entropy", note)
    spec = spec_of("cifar10/simple_cnn/adam10/n300/seed0", epochs=2, batch_size=128)
    trained = loop.train(spec, load_packed(data), torch.device("cpu"), "fp32")
    assert [count for count, *_ in seen] == [128, 128, 44] * 2
    for epoch, steps in zip(trained.history, (seen[:3], seen[3:]), strict=True):
        assert epoch["train_loss"] == pytest.approx(np.mean([loss for _, loss, _ in steps]))
        assert epoch["train_accuracy"] == pytest.approx(100 * sum(hits for *_, hits in steps) / 300)


def test_the_model_sees_the_images_that_the_recipe_asks_for(data):
    """In two epochs: cropped, flipped, normalised, mixed and erased, each step computed again."""
    spec = spec_of("cifar10/cnn/adamw10/n300/seed0", mixup=0.8, cutmix=1.0, batch_size=128)
    spec["recipe"]["augmentation"] |= {"crop_padding": 4, "horizontal_flip": 0.5, "random_erasing": 0.5}
    packed = load_packed(data)
    images = trainer.Images.load(*packed.train, loop.split_rows(spec, packed)[0], torch.device("cpu"))
    training = trainer.Trainer(spec, {"train": images}, torch.device("cpu"), "fp32")
    seen = []
    training.model.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    mean, std = (torch.tensor(spec["recipe"]["normalization"][key]).view(3, 1, 1) for key in ("mean", "std"))
    draws = []
    for _ in range(2):
        training.train_epoch()
        draws.append(training.parameters.flip.clone())
        for batch, found in zip(torch.arange(300).split(128), seen[-3:], strict=True):
            pixels = images.take(training.order[batch])[0]
            pixels = augment(pixels, training.parameters.take(batch), 4)
            assert torch.allclose(
                mix((pixels / 255 - mean) / std, training.mixing.take(batch)), found, atol=1e-5
            )
    assert not torch.equal(*draws)


def test_each_random_stream_is_the_seeds_own(data):
    packed = load_packed(data)
    drawn = []
    for seed in (0, 1):
        spec = spec_of(f"cifar10/simple_vit/adamw10/n300/seed{seed}")
        rows = loop.split_rows(spec, packed)[0]
        images = {"train": trainer.Images.load(*packed.train, rows, torch.device("cpu"))}
        training = trainer.Trainer(spec, images, torch.device("cpu"), "fp32")
        torch.manual_seed(seed)
        begun = create_model(spec).state_dict()
        assert all(torch.equal(begun[k], v) for k, v in training.model.state_dict().items())
        training._draw_pass()
        state = {"subset": torch.from_numpy(rows), "order": training.order, "flip": training.parameters.flip}
        drawn.append(
            state
            | {
                "dropout": training.masks.get_state(),
                "weights": torch.cat([v.flatten() for v in begun.values()]),
            }
        )
    for name in drawn[0]:
        assert not torch.equal(drawn[0][name], drawn[1][name]), name
    seeds = {trainer.stream_seed(seed, purpose) for seed in (0, 1) for purpose in ("dropout", "order")}
    assert len(seeds) == 4


def test_the_selected_epoch_is_the_first_of_the_best_on_held_out_images(data):
    accuracies = zip((50.0, 70.0, 70.0, 60.0), (10.0, 20.0, 30.0, 40.0), strict=True)
    history = [{"val_accuracy": held, "test_accuracy": tested} for held, tested in accuracies]
    trained = SimpleNamespace(history=history, train_images=9, val_images=1, model=torch.nn.Linear(1, 1))
    found = describe_metrics(spec_of(), load_packed(data), "", trained, "fp32")["accuracy"]
    assert found == {"final": 40.0, "best": 40.0, "selected": 20.0}


def test_no_time_of_an_evaluation_counts_as_training(data, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    predict, train = trainer.Trainer.predict, trainer.Trainer.train

    def after(seconds, call):
        def slow(*args):
            clock[0] += seconds
            return call(*args)

        return slow

    monkeypatch.setattr(trainer.Trainer, "predict", after(1000, predict))
    monkeypatch.setattr(trainer.Trainer, "train", after(1, train))
    spec = spec_of("cifar10/cnn/adam10/nall/seed0", hold_out=True)
    trained = loop.train(spec, load_packed(data), torch.device("cpu"), "fp32")
    assert trained.epoch_seconds == [1, 1]
    assert trained.evaluation_seconds == [1000, 1000]


def test_every_image_is_seen_once_an_epoch(data, monkeypatch):
    rows = []
    take = trainer.Images.take
    monkeypatch.setattr(
        trainer.Images, "take", lambda self, index: (rows.append(index), take(self, index))[1]
    )
    loop.train(
        spec_of("cifar10/cnn/adam10/n300/seed0", epochs=1), load_packed(data), torch.device("cpu"), "fp32"
    )
    trained = torch.cat(rows[:3])
    assert sorted(trained.tolist()) == list(range(300))
    assert trained.tolist() != list(range(300))


def test_training_learns(data, tmp_path):
    spec = spec_of("cifar10/simple_cnn/adamw10/nall/seed0", epochs=4, lr=0.003, batch_size=32)
    spec["model"] |= {"channels": [16, 32], "hidden": 64}
    assert run(spec, data, tmp_path)["accuracy"]["final"] > 30  # chance is 10


def test_bfloat16_trains_and_is_recorded(data, tmp_path):
    spec = spec_of() | {"precision": "bf16"}
    assert run(spec, data, tmp_path)["precision"] == "bf16"


def test_logits_are_computed_in_fp32_whatever_the_rest(data):
    """Of 400 images none has two equal highest logits, as happens with 8 bits of them."""
    for name in ("vit", "cnn", "simple_vit", "simple_cnn"):
        spec = spec_of(f"cifar10/{name}/adam10/n200/seed0", epochs=1) | {"precision": "bf16"}
        logits = loop.train(spec, load_packed(data), torch.device("cpu"), "bf16").logits
        assert (logits != logits.bfloat16()).float().mean() > 0.9, name
        highest = logits.topk(2).values
        assert (highest[:, 0] > highest[:, 1]).all(), name


def test_updates_in_place_of_epochs(data, tmp_path):
    """Ten updates of 128 with 300 images, so passes of three: evaluated in the middle of them too."""
    spec = spec_of("cifar10/simple_cnn/adam10/n300/seed0", batch_size=128, updates=10, evaluations=4)
    del spec["recipe"]["epochs"]
    metrics = run(spec, data, tmp_path / "four")
    assert [epoch["epoch"] for epoch in metrics["history"]] == [1, 2, 3, 4]
    runtime = read(tmp_path / "four" / "runtime.json")
    assert runtime["images_per_second"] == pytest.approx((3 * 300 + 128) / runtime["train_seconds"])
    spec["recipe"]["evaluations"] = 1
    assert run(spec, data, tmp_path / "one")["accuracy"]["final"] == metrics["accuracy"]["final"]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("four", "one")]
    assert same[0] == same[1]  # when a model is evaluated changes nothing of its training
    spec["recipe"] |= {"updates": 6, "evaluations": 2}
    by_updates = run(spec, data, tmp_path / "updates")
    del spec["recipe"]["updates"], spec["recipe"]["evaluations"]
    by_epochs = run(spec | {"recipe": spec["recipe"] | {"epochs": 2}}, data, tmp_path / "epochs")
    assert by_updates["history"] == by_epochs["history"]


def test_a_diverging_loss_stops_the_run(data, tmp_path):
    with pytest.raises(StudyError, match="the training loss became nan in epoch"):
        run(spec_of(lr=1e20, epochs=4), data, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint"]


def test_a_subset_larger_than_the_data(data, tmp_path):
    with pytest.raises(StudyError, match="cifar10: train_size 1001 is over the 1000 training images"):
        run(spec_of("cifar10/vit/adam10/n1001/seed0"), data, tmp_path)


def test_data_of_another_dataset(data, tmp_path):
    spec = spec_of()
    spec["dataset"] |= {"name": "cifar100", "num_classes": 100}
    with pytest.raises(StudyError, match="the data are cifar10, not the cifar100 of the spec"):
        run(spec, data, tmp_path)


def test_a_gpu_repeats_itself_and_fp32_is_no_tf32_there(monkeypatch):
    """The switches, which torch has without a GPU too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    cuda = torch.backends.cuda
    fused = {name: getattr(cuda, f"{name}_sdp_enabled") for name in ("flash", "mem_efficient", "cudnn")}
    before = {name: is_enabled() for name, is_enabled in fused.items()}
    assert any(before.values())
    try:
        devices.use_deterministic_algorithms(torch.device("cuda"))
        assert not any(is_enabled() for is_enabled in fused.values())
        assert cuda.math_sdp_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.use_deterministic_algorithms(False)
        for name, was in before.items():
            getattr(cuda, f"enable_{name}_sdp")(was)


@pytest.mark.parametrize(
    ("visible", "is_there"), [("", False), ("-1,0", False), ("0,-1", True), (None, True)]
)
def test_a_gpu_that_is_hidden_is_none(visible, is_there, monkeypatch):
    monkeypatch.setattr(devices.Path, "glob", lambda folder, pattern: iter(["nvidia0"]))
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.has_gpu("auto") == devices.has_gpu("cuda") == is_there


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), True),
        (torch.AcceleratorError("CUDA error: out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GiB)."), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered."), False),
    ],
)
def test_memory_that_is_not_enough(error, is_memory, data, tmp_path, monkeypatch):
    def train(*_):
        raise error

    monkeypatch.setattr("vitcnn.training.run.train", train)
    said = r"not enough: .*\. Lower jobs_per_gpu, or the .* batch_size" if is_memory else "illegal memory"
    with pytest.raises(StudyError if is_memory else RuntimeError, match=said):
        run(spec_of(), data, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system's count is the process's own")
def test_the_peak_of_memory_is_not_that_of_the_process_that_started_it():
    """Snakemake, say, which takes a gigabyte for a study of many runs; getrusage() counts it too."""
    code = "import sys; sys.path.insert(0, 'workflow'); from vitcnn.training.devices import peak_memory; print(peak_memory())"
    large = f"""
import subprocess, sys
ballast = bytearray(400_000_000)
ballast[::4096] = b"1" * len(ballast[::4096])
subprocess.run([sys.executable, "-c", {code!r}], check=True)
"""
    done = subprocess.run([sys.executable, "-c", large], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1e6 < int(done.stdout) < 2e8


def test_a_device_that_is_absent():
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(StudyError, match=f"device: {absent} is not available here"):
        devices.select_device(absent)
    assert not devices.has_gpu("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_job_that_has_a_gpu_and_sees_no_cuda(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(
        StudyError, match=r"GPU 3 is assigned to this job, but torch sees no CUDA device. torch .* driver"
    ):
        devices.select_device("cuda")


@pytest.mark.parametrize(
    ("name", "capability", "runs"),
    [
        ("P100", (6, 0), False),
        ("V100", (7, 0), False),
        ("T4", (7, 5), True),
        ("RTX 3090", (8, 6), True),
        ("H100", (9, 0), True),
        ("B200", (10, 0), True),
        ("a later one", (13, 0), True),
    ],
)
def test_architectures_without_kernels_are_refused(name, capability, runs):
    wheels = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
    if runs:
        devices.refuse_without_kernels(name, capability, wheels)
        devices.refuse_without_kernels(name, capability, ["gfx942"])  # AMD's names say nothing of these
    else:
        with pytest.raises(StudyError, match=rf"{name} \(sm_{capability[0]}{capability[1]}\) is not among"):
            devices.refuse_without_kernels(name, capability, wheels)


def fail(message):
    raise RuntimeError(message)


def trainer_of(data, precision="fp32", model="cnn", device="cpu", **recipe):
    spec = spec_of(f"cifar10/{model}/adam10/n200/seed0", **recipe)
    packed = load_packed(data)
    rows, _ = loop.split_rows(spec, packed)
    images = {
        "train": trainer.Images.load(*packed.train, rows, torch.device("cpu")),
        "test": trainer.Images.load(*packed.test, np.arange(len(packed.test.labels)), torch.device("cpu")),
    }
    return trainer.Trainer(spec, images, torch.device(device), precision)


def test_the_table_of_a_gpu_has_the_values_of_the_cpu_in_every_bit():
    every_value = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    for name in ("adam10", "adamw20"):
        normalization = resolve(CONFIG["recipes"][name]["normalization"], "cifar10")
        scale = {key: torch.tensor(value).view(3, 1, 1) for key, value in normalization.items()}
        divided = normalize(every_value, **scale)
        assert torch.equal(divided, look_up(normalized_values(**scale), every_value))


def test_a_pass_augmented_at_its_start_trains_the_same(data, monkeypatch):
    monkeypatch.setattr(trainer, "AHEAD_CHUNK", 64)
    trainers = [trainer_of(data), trainer_of(data)]
    trainers[1].augments_ahead = True
    figures = [[each.train_epoch() for _ in range(2)] for each in trainers]
    assert trainers[1].augmented is not None
    assert figures[0] == figures[1]


@pytest.mark.parametrize("model", ["vit", "cnn"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_cast_ahead_train_as_autocast_casts_them(precision, model, data):
    """Losses, predictions, weights and gradients to the last bit, also after a state of another training is set."""
    by_autocast, ahead = (trainer_of(data, precision, model, clip_grad_norm=1) for _ in range(2))
    for each in (by_autocast, ahead):
        each.loss_scale = LossScale(torch.device("cpu")) if precision == "fp16" else None
    ahead.casts = CastWeights(ahead.model, torch.zeros(2, 3, 32, 32), precision)
    for _ in range(2):
        assert by_autocast.train_epoch() == ahead.train_epoch()
        assert torch.equal(by_autocast.predict("test"), ahead.predict("test"))
    states = [dict(each.model.named_parameters()) for each in (by_autocast, ahead)]
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name]), name
        assert torch.equal(weight.grad, states[1][name].grad), name
    other = trainer_of(data, precision, model, lr=0.01)
    other.train_epoch()
    ahead.set_state(other.get_state())
    assert torch.equal(other.predict("test"), ahead.predict("test"))


def test_a_step_that_failed_midway_leaves_no_gradient_behind(data, monkeypatch):
    """As a capture may: nothing of it was computed, but the casts have gradients."""
    whole, failed = (trainer_of(data, "bf16", "vit", optimizer="sgd") for _ in range(2))
    for each in (whole, failed):
        each.casts = CastWeights(each.model, torch.zeros(2, 3, 32, 32), "bf16")
    before = copy.deepcopy(failed.get_state())
    failed._draw_pass()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="capturing"):
        patched.setattr(CastWeights, "collect_gradients", lambda casts: fail("capturing"))
        failed._train_step(failed._batches("train")[0])
    assert any(cast.grad is not None for cast in failed.casts.casts.values())
    failed.set_state(before)
    assert whole.train_epoch() == failed.train_epoch()


def test_a_weight_that_is_used_in_two_ways_is_left_to_autocast():
    class Tied(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + self.weight.sum()

    model = torch.nn.Sequential(Tied(3, 3), torch.nn.Linear(3, 3))
    model[1].bias.requires_grad = False
    casts = CastWeights(model, torch.zeros(2, 3), "bf16").casts
    assert {name: cast.requires_grad for name, cast in casts.items()} == {
        "0.bias": True,
        "1.weight": True,
        "1.bias": False,
    }


@pytest.mark.parametrize("model", ["vit", "cnn"])
def test_a_warm_up_leaves_nothing(model, data):
    trainers = [trainer_of(data, model=model), trainer_of(data, model=model)]
    trainers[1].warm_up()
    assert trainers[0].train_epoch() == trainers[1].train_epoch()
    assert torch.equal(trainers[0].predict("test"), trainers[1].predict("test"))


def test_channels_last_is_not_used_where_it_is_wrong():
    model = create_model(spec_of("cifar10/cnn/adam10/n200/seed0"))
    assert trainer.safe_memory_format(model, torch.device("mps")) is torch.contiguous_format
    assert trainer.safe_memory_format(model, torch.device("cuda")) is torch.channels_last


def test_a_gpu_warms_up_before_the_first_epoch(data, monkeypatch):
    warmed = []

    class StandIn:
        model = None

        def __init__(self, spec, images, device, *_):
            self.device = device

        def warm_up(self):
            warmed.append(self.device.type)

    monkeypatch.setattr(loop, "Trainer", StandIn)
    monkeypatch.setattr(loop.Images, "load", lambda *_: None)
    for device in ("cpu", "cuda"):
        loop.Training(spec_of(), load_packed(data), torch.device(device), "fp32", None)
    assert warmed == ["cuda"]


def test_the_clock_is_read_when_what_is_queued_is_done(monkeypatch):
    """A second here is a wait for the GPU."""
    waited = []
    monkeypatch.setattr(loop, "synchronize", waited.append)
    checkpoints = SimpleNamespace(seconds=0)
    training = SimpleNamespace(
        trainer=SimpleNamespace(device="cuda", capture_seconds=0), lapped_at=0, checkpoints=checkpoints
    )
    with monkeypatch.context() as patched:
        patched.setattr(loop.time, "perf_counter", lambda: len(waited))
        assert loop.Training._lap(training) == 1
        checkpoints.seconds = 0.25  # of writing, which is no work of an epoch
        assert loop.Training._lap(training) == 0.75
    assert waited == ["cuda"] * 2


def test_graphs_are_asked_for_as_given_and_recorded(data, tmp_path, monkeypatch):
    asked, init = [], trainer.Trainer.__init__
    monkeypatch.setattr(
        trainer.Trainer, "__init__", lambda self, *given: (asked.append(given[-1]), init(self, *given))[1]
    )
    monkeypatch.setattr(trainer.Trainer, "graphs", "not permitted")
    train_run(spec_of(epochs=1), data, tmp_path, "cpu", 1, graphs="off")
    assert asked == ["off"]
    assert read(tmp_path / "runtime.json")["graphs"] == "not permitted"


def test_graphs_are_those_of_the_configuration_or_of_the_repeated_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script sets its first folder
    loader = spec_from_file_location("train_by_hand", ROOT / "workflow/scripts/train.py")
    script = module_from_spec(loader)
    loader.loader.exec_module(script)

    def graphs(*words):
        args = script.parser.parse_args([*words, "--out", str(tmp_path / "out")])
        script.prepare(args)
        return args.graphs

    write_json(tmp_path / "config.json", CONFIG | {"graphs": False})
    named = ("--run", "cifar10/vit/adam10/n200/seed0", "--config", str(tmp_path / "config.json"))
    assert graphs(*named) == "off"
    assert graphs(*named, "--graphs", "auto") == "auto"
    record = {"script": "train", "inputs": {"manifest.json": ""}, "settings": {"spec": spec_of()}}
    monkeypatch.setattr(script, "read_record", lambda path: record)
    monkeypatch.setattr(script, "differences", lambda *_: ["torch: 1 → 2"])
    (tmp_path / "runtime.json").touch()
    for left, then in (("off", "off"), ("captured", "auto"), (None, "auto")):
        runtime = {"device": {"type": "cuda"}, "threads": 1, "graphs": left}
        monkeypatch.setattr(script, "read_json", lambda *_, runtime=runtime: runtime)
        assert graphs("--repeat", str(tmp_path / "provenance.json")) == then
    assert "changed since: torch: 1 → 2" in caplog.text


def test_a_gpu_gets_no_copy_of_images_that_are_all_used():
    class Watched(np.ndarray):
        def __getitem__(self, rows):
            raise AssertionError("copied")

    pixels, labels = np.zeros((6, 3, 4, 4), np.uint8).view(Watched), np.arange(6)
    assert len(trainer.Images.load(pixels, labels, np.arange(6), torch.device("meta"))) == 6
    with pytest.raises(AssertionError, match="copied"):
        trainer.Images.load(pixels, labels, np.arange(5), torch.device("meta"))


@pytest.mark.parametrize(
    ("device", "has", "asked", "chosen"),
    [
        ("cpu", "avx2 avx512_bf16", "auto", "bf16"),
        ("cpu", "amx_bf16", "auto", "bf16"),
        ("cpu", "avx2 avx512f", "auto", "fp32"),
        ("cpu", "avx2", "bf16", "bf16"),
        ("mps", "amx_bf16", "auto", "fp32"),
        ("cuda", True, "auto", "bf16"),
        ("cuda", False, "auto", "fp32"),
        ("cuda", False, "fp16", "fp16"),
        ("cuda", False, "bf16", None),
    ],
)
def test_the_precision_that_the_hardware_is_faster_in(device, has, asked, chosen, monkeypatch):
    monkeypatch.setattr(devices, "_cpu", lambda name: has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    if chosen:
        assert devices.select_precision(asked, torch.device(device)) == chosen
        return
    with pytest.raises(StudyError, match="bf16 is not supported by this GPU"):
        devices.select_precision(asked, torch.device(device))


def test_a_device_is_known_by_what_decides_its_digits(monkeypatch):
    monkeypatch.setattr(devices, "_cpu", lambda name: "Some CPU")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert devices.identify(torch.device("cpu")) == ["cpu", "Some CPU", "AVX2"]
    gpu = type("Properties", (), {"name": "T4", "multi_processor_count": 40})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert devices.identify(torch.device("cuda")) == ["cuda", "T4", 40]


def test_fp16_scales_its_loss_as_torch_does(data):
    """The factor's course over overflows is GradScaler's, and a step with an overflow changes no weight."""
    ours, scaler = LossScale(torch.device("cpu")), torch.amp.GradScaler("cpu")
    mine, theirs = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = torch.optim.SGD([theirs], lr=0.1)
    for value in (1.0, float("inf"), 2.0, float("nan"), 3.0):
        for parameter, scale in ((mine, ours.scale), (theirs, scaler.scale(torch.ones(())))):
            parameter.grad = torch.full((3,), value) * scale
        overflow = ours.unscale([mine])
        scaler.step(optimizer)
        scaler.update()
        assert float(ours.scale) == scaler.get_scale()
        assert bool(overflow) == (not np.isfinite(value))
        if not overflow:
            assert torch.equal(mine.grad, torch.full((3,), value))
    trainer = trainer_of(data, "fp16")
    trainer.loss_scale.scale.fill_(float("inf"))
    before = copy.deepcopy(trainer.optimizer.parameters)
    trainer.train(1)
    assert all(map(torch.equal, before, trainer.optimizer.parameters))
    resumed = trainer_of(data, "fp16")
    resumed.set_state(trainer.get_state())
    assert torch.equal(resumed.loss_scale.scale, trainer.loss_scale.scale)


def test_fp16_trains_about_as_fp32(data):
    losses = [trainer_of(data, precision).train_epoch()[0] for precision in ("fp32", "fp16")]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_widths_that_the_cpu_cannot_be_trusted_with():
    """Channels-last with a strided 1×1 convolution of 8 channels corrupts memory in torch 2.15."""
    spec = spec_of("cifar10/cnn/adam10/n200/seed0")
    for channels, expected in (([16, 32], torch.channels_last), ([8, 16], torch.contiguous_format)):
        spec["model"] |= {"channels": channels, "blocks": [1, 1]}
        assert trainer.safe_memory_format(create_model(spec), torch.device("cpu")) is expected


def test_the_log_tells_each_epoch(data, tmp_path, caplog):
    caplog.set_level("INFO")
    run(spec_of(), data, tmp_path)
    assert sum("test accuracy" in line for line in caplog.messages) == 2


def test_json_that_does_not_fit_its_schema_is_not_written(tmp_path):
    with pytest.raises(StudyError, match=r"metrics\.json: does not fit metrics\.schema\.json"):
        write_json(tmp_path / "metrics.json", {"version": 1}, "metrics.schema.json")
    assert list(tmp_path.iterdir()) == []
    json.loads((ROOT / "workflow/schemas/runtime.schema.json").read_text())


@pytest.mark.parametrize(
    ("product", "factors"),
    [
        (F.linear, [(64, 200), (32, 200), (32,)]),
        (torch.matmul, [(4, 16, 48), (4, 48, 16)]),
        (F.conv2d, [(8, 16, 12, 12), (16, 16, 3, 3)]),
    ],
)
def test_rounded_products_are_exact_ones_rounded_once(product, factors):
    random = torch.Generator().manual_seed(0)
    factors = [torch.randn(shape, generator=random).bfloat16() for shape in factors]
    upstream = torch.randn(product(*factors).shape, generator=random).bfloat16()

    def found(dtype):
        leaves = [factor.to(dtype, copy=True).requires_grad_() for factor in factors]
        result = product(*leaves)
        result.backward(upstream.to(dtype))
        return [result, *(leaf.grad for leaf in leaves)]

    with RoundedProducts():
        rounded = found(torch.bfloat16)
    for ours, exact in zip(rounded, found(torch.float64), strict=True):
        assert ours.dtype == torch.bfloat16
        # The order of adding in fp32 decides those that are halfway between two numbers of bf16.
        assert (ours != exact.bfloat16()).double().mean() < 0.01
