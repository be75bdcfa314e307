"""The step that a GPU replays, with a stand-in for the capture: which calls compute what, and how often."""

import copy
import gc
import json
import sys
import time
import weakref

import numpy as np
import pytest
import torch
from conftest import ROOT, read

from vitcnn.config import load_config
from vitcnn.data.augmentation import normalized_values
from vitcnn.plan import Run, run_spec
from vitcnn.training import graphs
from vitcnn.training.graphs import WARM_UP, Graphed
from vitcnn.training.precision import CastWeights
from vitcnn.training.trainer import Images, Trainer

sys.path.insert(0, str(ROOT / "tests/speed"))
import gpu


class Capture:
    """Stands in for a capture: nothing is computed then, and each replay fills the same output.

    A replay here runs the Python again, so it cannot show a step that moves to other memory: that the memory
    stays is asserted of the trainer apart.
    """

    def __init__(self):
        self.captured = 0

    def __call__(self, step, batch, generators):
        self.captured += 1
        output = torch.empty(0)

        def replay():
            result = step(batch)
            output.resize_(result.shape).copy_(result)

        return replay, output


def test_each_call_computes_once_and_results_are_their_own():
    seen, capture = [], Capture()

    def step(batch):
        seen.append(batch.tolist())
        return batch.float() * 2

    graphed = Graphed(step, 2, capture=capture)
    short = torch.tensor([9])  # also first, when a training resumes at the last batch of an epoch
    batches = [short, *(torch.tensor([i, i + 1]) for i in range(8)), short, torch.tensor([3, 4])]
    results = [graphed(batch) for batch in batches]
    assert seen == [batch.tolist() for batch in batches]
    assert [result.tolist() for result in results] == [(2 * batch).tolist() for batch in batches]
    assert capture.captured == 1
    assert graphed.calls == 9 > WARM_UP  # the short batches are no calls of the graph's


def test_steps_that_are_queued_do_not_count_as_the_capture(monkeypatch):
    order = []
    monkeypatch.setattr(graphs, "synchronize", lambda device: order.append(f"wait for {device}"))
    monkeypatch.setattr(graphs.time, "perf_counter", lambda: order.append("clock") or 0.0)

    def capture(step, batch, generators):
        order.append("capture")
        return Capture()(step, batch, generators)

    graphed = Graphed(lambda batch: batch * 2, 2, capture=capture)
    for _ in range(WARM_UP + 2):
        graphed(torch.zeros(2))
    assert order == ["wait for cpu", "clock", "capture", "clock"]


def test_a_capture_that_fails_is_said_once_and_steps_go_without(caplog):
    def fail(step, batch, generators):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    steps = [Graphed(lambda batch: batch * 2, 2, capture=fail) for _ in range(2)]
    for graphed in steps:
        for i in range(WARM_UP + 3):
            assert graphed(torch.tensor([i, i])).tolist() == [2 * i, 2 * i]
        assert graphed.failures == ["operation not permitted when stream is capturing"]
    assert caplog.text.count("was not captured") == 1


def test_a_graph_of_before_is_not_replayed_after_a_capture_that_fails():
    """It draws from states of generators that such a failure has replaced."""

    def fail(step, batch, generators):
        raise RuntimeError("out of memory")

    failures, computed = [], []

    def step(batch):
        computed.append(batch.tolist())
        return batch * 2

    good = Graphed(step, 2, failures=failures, capture=Capture())
    bad = Graphed(lambda batch: batch * 3, 2, failures=failures, capture=fail)
    for graphed in (good, bad):
        for _ in range(WARM_UP + 1):
            graphed(torch.zeros(2))
    assert good.replay is not None and failures == ["out of memory"]
    good.replay = lambda: pytest.fail("replayed")
    assert good(torch.ones(2)).tolist() == [2, 2] and computed[-1] == [1, 1]
    assert good.replay is good.output is good.batch is None  # its memory is free


def test_what_a_failed_capture_allocated_is_free_when_the_step_runs():
    held = []

    def fail(step, batch, generators):
        activations = torch.zeros(10)
        held.append(weakref.ref(activations))
        raise RuntimeError("out of memory")

    def step(batch):
        assert all(tensor() is None for tensor in held)
        return batch * 2

    graphed = Graphed(step, 2, capture=fail)
    for _ in range(WARM_UP + 1):
        graphed(torch.zeros(2))
    assert len(held) == 1


@pytest.mark.parametrize("torch_version", [(2, 11), (2, 15)])
def test_a_capture_is_not_disturbed_and_gives_generators_back(torch_version, monkeypatch):
    """With a stand-in for CUDA's graph, whose end fails too: the step's own reason is kept, and it runs without.

    No garbage is collected meanwhile. An older torch is told of the generators, and each gets a fresh state.
    """

    class Generator:
        device = "cpu"
        fresh = None

        def get_state(self):
            return torch.Generator().manual_seed(3).get_state()

        def graphsafe_set_state(self, fresh):
            self.fresh = fresh

    registered = []

    class Graph:
        def __init__(self, *_, **__): ...
        def register_generator_state(self, generator):
            registered.append(generator)

        def __enter__(self): ...
        def __exit__(self, *_):
            raise RuntimeError("a failed capture cannot end")

    def step(batch):
        if not gc.isenabled():
            raise RuntimeError("operation not permitted")
        return batch

    def empty_cache():
        raise RuntimeError("captures are underway")

    of_masks, of_torch = Generator(), Generator()
    monkeypatch.setattr(graphs, "TORCH", torch_version)
    stand_ins = {
        "CUDAGraph": Graph,
        "graph": Graph,
        "current_stream": lambda: None,
        "empty_cache": empty_cache,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "default_generators", {None: of_torch})
    graphed = Graphed(step, 2, [of_masks])
    for _ in range(WARM_UP + 1):
        assert graphed(torch.zeros(2)).tolist() == [0, 0]
    assert graphed.failures == ["operation not permitted"]
    assert gc.isenabled()
    is_old = torch_version < (2, 15)
    assert registered == [of_masks] * is_old
    for generator in (of_masks, of_torch) * is_old:
        assert torch.equal(generator.fresh.get_state(), generator.get_state())


def memory(trainer):
    """Return where everything lies that a step reads or writes from one epoch to the next."""
    tensors = [trainer.order, *trainer.parameters, *trainer.mixing, trainer.prepared]
    tensors += [*trainer.scale.values(), trainer.optimizer.lr, trainer.values, trainer.augmented]
    tensors += trainer.casts.casts.values() if trainer.casts else []
    tensors += vars(trainer.loss_scale).values() if trainer.loss_scale else []
    tensors += trainer.model.state_dict().values()
    tensors += [tensor for group in trainer.optimizer.get_state().values() for tensor in group]
    for images in trainer.images.values():
        tensors += [images.pixels, images.labels, images.rows]
    return [tensor.data_ptr() for tensor in tensors if isinstance(tensor, torch.Tensor)]


SCHEDULED = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "lr_scheduler": "cosine",
    "warmup": 0.2,
    "no_decay": ["bias"],
}
MIXED = {"mixup": 0.8, "cutmix": 1, "label_smoothing": 0.1, "clip_grad_norm": 1}
AUGMENTED = {"random_erasing": 0.5, "auto_augment": "TrivialAugmentWide"}


@pytest.mark.parametrize("more", [{}, SCHEDULED | MIXED], ids=["notebook", "scheduled"])
@pytest.mark.parametrize("model", ["vit", "cnn"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_replayed_training_is_the_eager_one(precision, model, more):
    """Three epochs with a last batch that is short: the same losses, hits, predictions and weights.

    In 16 bits with all that a GPU's trainer has more: images augmented ahead, their values, weights cast ahead.
    """
    config = load_config(ROOT / "config.yaml") | {"precision": "fp32"}
    spec = copy.deepcopy(run_spec(config, Run("cifar10", model, "adam10", "all", 0)))
    spec["recipe"] |= {"batch_size": 16, "epochs": 3} | more
    spec["recipe"]["augmentation"] |= AUGMENTED if more else {}
    spec["model"] |= {"vit": {"embed_dim": 16, "depth": 2}, "cnn": {"channels": [16, 16, 16]}}[model]
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (90, 3, 32, 32), np.uint8), random.integers(0, 10, 90)
    left = []
    for replays in (False, True):
        device = torch.device("cpu")
        images = {name: Images.load(pixels, labels, np.arange(90), device) for name in ("train", "test")}
        trainer = Trainer(spec, images, device, precision)
        if precision != "fp32":
            trainer.augments_ahead, trainer.values = True, normalized_values(**trainer.scale)
            trainer.casts = CastWeights(trainer.model, torch.zeros(2, 3, 32, 32), precision)
        captures = []
        if replays:
            for name, step in trainer.steps.items():
                captures.append(Capture())
                trainer.steps[name] = Graphed(step, 16, capture=captures[-1])
        left.append([(trainer.train_epoch(), trainer.predict("test"))])
        before = memory(trainer)
        left[-1] += [(trainer.train_epoch(), trainer.predict("test")) for _ in range(2)]
        assert memory(trainer) == before
        left[-1].append(copy.deepcopy(trainer.model.state_dict()))
        assert all(capture.captured == 1 for capture in captures)
    eager, replayed = left
    for (figures, logits), (again, logits_again) in zip(eager[:3], replayed[:3], strict=True):
        assert figures == again
        assert torch.equal(logits, logits_again)
    assert all(torch.equal(eager[3][name], value) for name, value in replayed[3].items())


def test_the_one_script_for_a_gpu_keeps_each_part_whatever_comes_after_it(tmp_path):
    def fail():
        assert read(out)["parts"] == {"first": {"images": 3}}
        raise RuntimeError("no kernel")

    out = tmp_path / "out.json"
    assert gpu.measure([("first", lambda: {"images": 3}), ("second", fail)], out, "cpu", 60) == ["second"]
    assert "RuntimeError: no kernel" in read(out)["parts"]["second"]["failed"]
    again = [("first", lambda: pytest.fail("is there")), ("second", lambda: {"images": 4})]
    assert gpu.measure(again, out, "cpu", 60) == []
    assert read(out)["parts"] == {"first": {"images": 3}, "second": {"images": 4}}
    order = []
    slow = {"slow": {"runs": [{"failed": "not finished in time"}]}, "cut": {"left_out": "after 60 s"}}
    out.write_text(json.dumps({"parts": slow}))
    parts = [(name, lambda name=name: order.append(name) or {}) for name in ("slow", "cut", "new")]
    assert gpu.measure(parts, out, "cpu", 60) == []
    assert order == ["cut", "new", "slow"]
    out.write_text(json.dumps({"parts": slow}))
    assert gpu.measure(parts, out, "cpu", -1) == ["slow"]
    assert read(out)["parts"] == slow | {"new": {"left_out": "after -1 s"}}
    assert gpu.measure([("late", fail)], out, "cpu", -1) == []
    assert read(out)["parts"] == {"late": {"left_out": "after -1 s"}}
    found = {"apart": float("inf"), "holds": False}
    assert gpu.measure([("no number", lambda: found)], out, "cpu", 60) == ["no number"]
    assert read(out)["parts"]["no number"] == {"apart": "Infinity", "holds": False}


def test_the_one_script_for_a_gpu_trains_whole_runs_and_several_at_once(tmp_path):
    """On images that it draws: of 64 pixels twice as many."""
    cpu, config = torch.device("cpu"), load_config(ROOT / "config.yaml") | {"precision": "fp32"}
    specs = []
    for name in ("cifar10", "imagenet200"):
        spec = copy.deepcopy(run_spec(config, Run(name, "cnn", "adam10", "all", 0)))
        spec["recipe"] |= {"epochs": 1}
        spec["model"] |= {"channels": [16], "blocks": [1]}
        specs.append(spec)
    data = {spec["dataset"]["name"]: gpu.data_of(spec, None, 200, tmp_path) for spec in specs}
    found = gpu.whole_runs(specs, cpu, data, tmp_path / "out", 1, end=time.perf_counter() + 300)
    trained = [run["metrics"]["train_images"] for run in found["runs"]]
    assert trained == [200, 400] and set(found["images"].values()) == {"drawn"}
    assert all(rate > 0 for rate in gpu.together(specs[0], cpu, 150).values())


def test_the_one_script_for_a_gpu_ends_runs_in_time_and_says_what_they_trained_on(tmp_path):
    spec, data = (
        {"dataset": {"name": "cifar10"}},
        {"cifar10": tmp_path / "packed", "drawn": tmp_path / "drawn"},
    )
    found = gpu.whole_runs([spec] * 2, torch.device("cpu"), data, tmp_path / "out", 1, end=0)
    assert found["runs"] == [{"failed": "not finished in time"}] * 2
    assert found["images"] == {"cifar10": "packed", "drawn": "drawn"}


def test_the_one_script_for_a_gpu_trains_as_many_runs_at_a_time_as_have_memory(monkeypatch):
    for total, places in ((139 * 2**30, 34), (15 * 2**30, 3), (2**30, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda total=total: (0, total))
        assert gpu.places(torch.device("cuda")) == places
    assert gpu.places(torch.device("cpu")) > 30


def test_the_one_script_for_a_gpu_trains_on_no_drawn_images_for_a_folder_that_is_not_there(
    tmp_path, monkeypatch
):
    words = ["gpu.py", "speed", "specs", "--out", "out", "--resources", str(tmp_path / "absent")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as refused:
        gpu.main()
    assert refused.value.code == 2


def test_a_side_that_ends_says_why():
    spec = {"model": {"name": "cnn"}, "dataset": {"name": "cifar10"}, "precision": "fp32"}
    with pytest.raises(RuntimeError, match=r"plain ended with status 1: Traceback[^$]*KeyError: 'absent'"):
        gpu.compare(spec, "absent", 1, 4)


@pytest.mark.parametrize("model", ["vit", "cnn"])
def test_the_one_script_for_a_gpu_on_a_cpu(model, monkeypatch):
    """Where each way is the same: no difference; and a weight that is no number is one."""
    config = load_config(ROOT / "config.yaml") | {"precision": "fp32"}
    spec = copy.deepcopy(run_spec(config, Run("cifar10", model, "adam10", "all", 0)))
    spec["recipe"]["batch_size"] = 4
    spec["model"] |= {"vit": {"embed_dim": 16, "depth": 1}, "cnn": {"channels": [16, 16, 16]}}[model]
    found = gpu.correctness(spec, torch.device("cpu"), "fp32", 40)
    differences = ("graph_against_eager", "resumed_against_uninterrupted", "several_seeds_against_alone")
    first = ("first_loss_against_cpu", "first_gradients_against_cpu")
    assert [found[name] for name in (*differences, *first)] == [0] * 5
    assert found["predicted_by_graph_as_eagerly"] and found["holds"] is True
    for limit in ("FIRST_LOSS", "FIRST_GRADIENTS"):
        with monkeypatch.context() as stricter:
            stricter.setattr(gpu, limit, 0)
            assert gpu.correctness(spec, torch.device("cpu"), "fp32", 40)["holds"] is False
    one, other = (gpu.create(spec, torch.device("cpu"), "fp32", 40, "off", seed) for seed in (0, 1))
    assert 0 < gpu.differences(one, other) < float("inf")
    next(other.model.parameters()).data[:] = float("nan")
    assert gpu.differences(one, other) == float("inf")
    monkeypatch.setattr(gpu, "differences", lambda *_: 1e-9)
    assert gpu.correctness(spec, torch.device("cpu"), "bf16", 40)["holds"] is False
