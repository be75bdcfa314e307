"""Bad configuration: each mistake is named with its place, and the nearest right word."""

import copy
import math
import re

import pytest
import yaml
from conftest import ROOT, merge
from hypothesis import given, settings
from hypothesis import strategies as st

from vitcnn.config import check_config, load_config, refuse_repeated_keys
from vitcnn.errors import StudyError
from vitcnn.schema import resolve

CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def claims_of(*experiments, **stated):
    """A group of one claim about the comparison, or about other experiments."""
    claims = [{"text": "So it is"} | stated]
    return {"title": "Mine", "experiments": list(experiments) or ["comparison"], "claims": claims}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"sedes": [1]}, "sedes: unknown key; did you mean seeds?"),
        ({"recipes": {"adam10": {"learning_rate": 1}}}, "recipes.adam10.learning_rate: unknown key"),
        (
            {"recipes": {"adam10": {"augmentation": {"rotatoin": 3}}}},
            "recipes.adam10.augmentation.rotatoin: unknown key; did you mean rotation?",
        ),
        (
            {"models": {"vit": {"patchsize": 4}}},
            "models.vit.patchsize: unknown key; did you mean patch_size?",
        ),
        (
            {"experiments": {"curves": {"model": []}}},
            "experiments.curves.model: unknown key; did you mean models?",
        ),
        ({"report": {"plots": {"dip": 100}}}, "report.plots.dip: unknown key; did you mean dpi?"),
        ({"recipes": {"adam10": {"lr": "fast"}}}, "recipes.adam10.lr: 'fast' is not a number"),
        ({"seeds": ["x"]}, "seeds.0: 'x' is not a whole number"),
        ({"recipes": {"adam10": {"epochs": 1.5}}}, "recipes.adam10.epochs: 1.5 is not a whole number"),
        ({"recipes": {"adam10": {"optimizer": "adamx"}}}, "did you mean adam"),
        ({"models": {"vit": {"dropout": 1.5}}}, "models.vit.dropout: 1.5"),
        ({"models": {"vit": {"activation": "gleu"}}}, "did you mean gelu?"),
        ({"models": {"vit": {"builder": "vitt"}}}, "models.vit.builder: there is no vitt; did you mean vit?"),
        ({"device": "gpu"}, "device: 'gpu' is not one of auto, cpu, cuda, mps"),
        ({"seeds": []}, "seeds: is empty"),
        ({"flaws": {"steps": []}}, "flaws.steps: is empty"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 listed more than once"),
        ({"seeds": [7, "7"]}, "seeds: 7 listed more than once"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"experiments": {"curves": {"seeds": [3, 3]}}}, "experiments.curves.seeds: 3 listed more than once"),
        (
            {"experiments": {"curves": {"datasets": ["cifar11"]}}},
            "cifar11 is not one of the datasets; did you mean",
        ),
        ({"experiments": {"curves": {"models": ["simple_vitt"]}}}, "did you mean simple_vit?"),
        ({"experiments": {"curves": {"recipe": "adamw"}}}, "adamw is not one of the recipes"),
        (
            {"experiments": {"curves": {"train_sizes": [0]}}},
            "experiments.curves.train_sizes.0: 0 is neither a whole number above 0 nor all",
        ),
        ({"experiments": {"curves": {"train_sizes": [9, "9"]}}}, "train_sizes: 9 listed more than once"),
        (
            {"models": {"vit": {"patch_size": 5}}},
            "models.vit.patch_size: 5 does not divide the 32 pixels of cifar10",
        ),
        ({"models": {"vit": {"num_heads": 7}}}, "7 heads do not divide embed_dim 128"),
        ({"models": {"cnn": {"blocks": [2, 2]}}}, "channels has 3 entries, blocks 2"),
        (
            {"recipes": {"adam10": {"batch_size": {"cifar1": 8}}}},
            "recipes.adam10.batch_size.cifar1: is no dataset",
        ),
        ({"datasets": {"cifar10": {"layout": "image_foldr"}}}, "did you mean image_folder?"),
        (
            {"datasets": {"cifar10": {"resize": "crop"}}},
            "datasets.cifar10.resize: cifar10 has a size and a test",
        ),
        ({"datasets": {"cifar10": {"test_share": 1.5}}}, "datasets.cifar10.test_share: 1.5"),
        ({"datasets": {"cifar10": {"source": []}}}, "datasets.cifar10.source: is empty"),
        ({"datasets": {"cifar10": {"source": ["ftp://x/y"]}}}, "ftp:// is not supported"),
        ({"datasets": {"cifar10": {"source": ["kaggle:tiny"]}}}, "kaggle:OWNER/DATASET"),
        ({"datasets": {"cifar10": {"source": ["a.zip#md5=12"]}}}, "datasets.cifar10.source: a.zip#md5=12"),
        ({"datasets": {"a; touch pwned": CONFIG["datasets"]["cifar10"]}}, "'a; touch pwned' is no name"),
        ({"models": None}, "models: None is not a mapping of keys"),
        (
            {"models": {"vit": {"builder": "timm:vit_tiny_patch16_224", "name": "x"}}},
            "models.vit.name: leave it out",
        ),
        ({"recipes": {"adam10": {"lr": math.nan}}}, "recipes.adam10.lr: nan is no finite number"),
        ({"recipes": {"adam10": {"mixup": math.inf}}}, "recipes.adam10.mixup: inf is no finite number"),
        (
            {"datasets": {"cifar10": {"source": ["~nouser/x"]}}},
            "datasets.cifar10.source: ~nouser/x: ",
        ),
        (
            {
                "datasets": {"depth": CONFIG["datasets"]["cifar10"]},
                "models": {"vit": {"depth": {"depth": 2}}},
            },
            "datasets.depth: is the name of a setting too; give it another",
        ),
        (
            {
                "datasets": {"rotation": CONFIG["datasets"]["cifar10"] | {"title": "Rotation"}},
                "experiments": {"curves": {"datasets": ["rotation"]}},
            },
            "datasets.rotation: is the name of a setting too; give it another",
        ),
        (
            {"datasets": {"cifar10": {"image_size": 64}}},
            "datasets.cifar10.image_size: cifar10 has images of 32 pixels, not of 64",
        ),
        (
            {"representations": {"dataset": "cifar100", "experiments": ["curves"]}},
            "representations.dataset: none of the experiments has cifar100; name another, or set",
        ),
        (
            {"models": {"vit": {"title": "CNN"}}},
            "models.cnn.title: CNN is the title of vit too; give it another",
        ),
        (
            {"experiments": {"curves": {"seeds": [5]}, "comparison": {"seeds": [6]}}},
            "representations.experiments: have no seed in common",
        ),
        (
            {"experiments": {"corruptions": CONFIG["experiments"]["curves"]}},
            "experiments.corruptions: a figure or table has this name",
        ),
        (
            {"experiments": {"curves_selection": CONFIG["experiments"]["curves"]}},
            "experiments.curves_selection: is the name of a table of curves",
        ),
        (
            {"recipes": {"adam10": {"epochs": 3, "updates": 9}}},
            "name either epochs, or updates and evaluations",
        ),
        (
            {"recipes": {"adam10": {"evaluations": 9}}},
            "adam10.evaluations: set updates and evaluations together",
        ),
        ({"recipes": {"adam10": {"momentum": 0.9}}}, "adam10.momentum: is for optimizer: sgd only"),
        (
            {"recipes": {"adam10": {"optimizer": "sgd", "nesterov": True}}},
            "adam10.nesterov: needs a momentum",
        ),
        ({"recipes": {"adam10": {"min_lr": 1e-5}}}, "adam10.min_lr: is where a cosine ends"),
        (
            {"recipes": {"adam10": {"min_lr": 1, "lr_scheduler": "cosine"}}},
            "recipes.adam10.min_lr: 1 is over lr 0.001",
        ),
        ({"recipes": {"adam10": {"lr_scheduler": "cosin"}}}, "did you mean cosine?"),
        ({"recipes": {"adam10": {"no_decay": ["biases"]}}}, "did you mean bias?"),
        ({"recipes": {"adam10": {"label_smoothing": 1}}}, "recipes.adam10.label_smoothing: 1"),
        ({"recipes": {"adam10": {"warmup": 5}}}, "recipes.adam10.warmup: 5"),
        (
            {"experiments": {"comparison": {"recipe": {"vit": "adam10"}}}},
            "recipe: names vit, not each of vit, cnn",
        ),
        (
            {"experiments": {"comparison": {"recipe": {"vit": "adam10", "cnn": "adamw"}}}},
            "experiments.comparison: adamw is not one of the recipes; did you mean adamw",
        ),
        (
            {"experiments": {"curves": {"pairs": [["simple_vit", "simple_cn"]]}}},
            "experiments.curves.pairs: simple_cn is not one of its models; did you mean simple_cnn?",
        ),
        ({"experiments": {"curves": {"pairs": [["simple_vit"]]}}}, "experiments.curves.pairs.0"),
        (
            {
                "experiments": {
                    "curves": {"pairs": [["simple_vit", "simple_cnn"], ["simple_cnn", "simple_vit"]]}
                }
            },
            "experiments.curves.pairs: the pair of simple_cnn and simple_vit is named 2 times, in either order",
        ),
        (
            {"claims": {"mine": claims_of(metric="final", larger="ViT", pairs=[["vit", "cnn"]] * 3)}},
            'claims.mine: "So it is": pairs: the pair of cnn and vit is named 3 times, in either order',
        ),
        (
            {"claims": {"mine": claims_of("curves", metric="final", larger="simple_cn")}},
            "claims.mine: simple_cn is not one of the families (ViT, CNN, other) or models of its experiments; did you "
            "mean simple_cnn?",
        ),
        (
            {"claims": {"mine": claims_of("comparison", "curves", metric="final", larger="vit_p")}},
            "claims.mine: vit_p is not one of the families (ViT, CNN, other) or models of its experiments",
        ),
        (
            {
                "claims": {
                    "mine": claims_of(
                        metric="final", larger="ViT", scope={"over_classes": 10, "up_to_classes": 5}
                    )
                }
            },
            'claims.mine: "So it is": no dataset has over 10 classes and up to 5',
        ),
        (
            {"claims": {"first_notebook": {"experiments": ["comparizon"]}}},
            "claims.first_notebook: comparizon is not one of the experiments; did you mean comparison?",
        ),
        (
            {"claims": {"first_notebook": {"claims": [{"text": "a", "metric": "final", "larger": "cnm"}]}}},
            "claims.first_notebook: cnm is not one of the families (ViT, CNN, other) or models of its experiments; did you "
            "mean cnn?",
        ),
        (
            {"claims": {"first_notebook": {"claims": [{"text": "a", "metric": "final"}]}}},
            "claims.first_notebook.claims.0: needs exactly one of: metric and larger; or",
        ),
        (
            {"claims": {"first_notebook": {"claims": [{"text": "a", "metric": "finl", "within": 1}]}}},
            "'finl' is not one of final, best",
        ),
        (
            {"datasets": {"cifar10": {"layout": "torchvision", "test_share": 0.2}}},
            "datasets.cifar10.test_share: what torchvision reads has a test split of its own",
        ),
        (
            {"datasets": {"cifar10": {"source": ["torchvision:SVNH"]}}},
            "torchvision:SVNH: is none of DTD",
        ),
        (
            {"experiments": {"curves": {"accuracy": "selected"}}},
            "experiments.curves.accuracy: selected needs hold_out: true in recipes.adamw20",
        ),
        (
            {"experiments": {"fair": {"equal": [{"models": ["cnn", "vit_q"], "in": "flops", "within": 0}]}}},
            "experiments.fair.equal: vit_q is not one of its models; did you mean vit_",
        ),
        (
            {"experiments": {"fair": {"equal": [{"models": ["cnn", "vit_p"], "in": "flop", "within": 0}]}}},
            "experiments.fair.equal.0.in: 'flop' is not one of parameters, flops; did you mean flops?",
        ),
        (
            {
                "experiments": {
                    "fair": {"recipe": {"cnn": "modern30", "vit_p": "modern30", "vit_f": "modern10"}}
                }
            },
            "experiments.fair.equal: cnn and vit_f are trained by recipes.modern30 and recipes.modern10, whose epochs "
            "for cifar10 is 30 and 10; make them the same",
        ),
        (
            {
                "experiments": {
                    "fair": {"recipe": {"cnn": "mine", "vit_p": "modern30", "vit_f": "modern30"}}
                },
                "recipes": {"mine": CONFIG["recipes"]["modern30"] | {"augmentation": {"rotation": 5}}},
            },
            "cnn and vit_p are trained by recipes.mine and recipes.modern30, whose augmentation.crop_padding for "
            "cifar10 is 0 and 4",
        ),
        (
            {"report": {"titles": {"sumary": "All"}}},
            "report.titles.sumary: is no experiment and no figure; did you mean summary?",
        ),
        (
            {"report": {"figures": {"mine": {"kind": "summary", "experiments": ["curves"]}}}},
            "report.figures.mine.experiments: names 1; kind: summary shows 2",
        ),
        (
            {"report": {"figures": {"mine": {"kind": "curves", "experiments": ["curve"]}}}},
            "report.figures.mine.experiments: curve is no experiment; did you mean curves?",
        ),
        (
            {"report": {"figures": {"curves_curves": {"kind": "curves", "experiments": ["curves"]}}}},
            "report.figures.curves_curves: is the name of a figure of experiments.curves; rename that, or set",
        ),
        (
            {"recipes": {"adam10": {"normalization": {"mean": [0.5], "std": [0.5, 0.5, 0.5]}}}},
            "recipes.adam10.normalization.mean: has 1 of at least 3",
        ),
        (
            {"recipes": {"adam10": {"normalization": {"mean": [124, 116, 104], "std": [0.2, 0.2, 0.2]}}}},
            "recipes.adam10.normalization.mean.0: 124 is greater than the maximum of 1",
        ),
        (
            {"datasets": {"cifar10": {"source": ["torchvision:MNIST"]}}},
            "datasets.cifar10.source: torchvision:MNIST needs layout: torchvision",
        ),
    ],
)
def test_mistakes_are_named(change, expected):
    with pytest.raises(StudyError) as error:
        check_config(merge(CONFIG, change))
    lines = str(error.value).splitlines()
    assert expected in str(error.value) and len(lines) == len(set(lines))


@pytest.mark.parametrize(
    "change",
    [
        {"comparison": {"datasets": ["cifar10"]}},
        {"comparison": {"models": ["vit"]}},
        {"comparison": None},
        {"fair": {"models": ["cnn", "vit_p"], "recipe": "modern30", "equal": []}},
    ],
)
def test_claims_about_what_a_study_leaves_out_are_no_mistake(change):
    claims = {
        "mine": claims_of(metric="final", larger="ViT", scope={"datasets": ["cifar100"]}),
        "yours": claims_of(
            "comparison", "curves", metric="final", larger="simple_vit", pairs=[["cnn", "vit"]]
        ),
        "theirs": claims_of(
            "comparison", "curves", metric="final", larger="vit", pairs=[["vit", "simple_cnn"]]
        ),
    }
    checked = check_config(merge(CONFIG, {"experiments": change, "claims": claims}))
    assert checked["claims"].keys() == CONFIG["claims"].keys() | claims.keys()


def test_equal_models_may_have_a_learning_rate_each():
    change = {
        "experiments": {"fair": {"recipe": {"cnn": "mine", "vit_p": "modern30", "vit_f": "modern30"}}},
        "recipes": {"mine": CONFIG["recipes"]["modern30"] | {"lr": 0.003, "title": "Tuned"}},
    }
    assert check_config(merge(CONFIG, change))["experiments"]["fair"]["recipe"]["cnn"] == "mine"


def test_updates_need_no_epochs():
    config = copy.deepcopy(CONFIG)
    recipe = config["recipes"]["adamw10"]
    del recipe["epochs"]
    recipe |= {"updates": 20, "evaluations": 5}
    assert "epochs" not in check_config(config)["recipes"]["adamw10"]
    recipe["evaluations"] = 21
    with pytest.raises(StudyError, match=r"recipes\.adamw10\.evaluations: 21 are more than the 20 updates"):
        check_config(config)


def test_value_missing_for_a_dataset_is_named():
    config = copy.deepcopy(CONFIG)
    config["recipes"]["adam10"]["batch_size"] = {"cifar10": 8, "cifar100": 8}
    with pytest.raises(StudyError, match=r"recipes\.adam10\.batch_size has no value for imagenet200"):
        check_config(config)


def test_all_mistakes_at_once():
    with pytest.raises(StudyError) as error:
        check_config(merge(CONFIG, {"seeds": [], "device": "gpu"}))
    assert str(error.value).count("\n  - ") == 2


def mappings(node, path=()):
    """Yield the path of every mapping with a fixed set of keys."""
    free = {("datasets",), ("models",), ("recipes",), ("experiments",)}
    free |= {("claims",), ("report", "figures"), ("report", "titles")}
    by_dataset = "default" in node or any(key in CONFIG["datasets"] for key in node)
    is_recipe_by_model = path[:1] == ("experiments",) and path[-1] == "recipe"
    if path not in free and not is_recipe_by_model and not (by_dataset and path[:1] != ("datasets",)):
        yield path
    for key, value in node.items():
        if isinstance(value, dict):
            yield from mappings(value, (*path, key))


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(list(mappings(CONFIG))), key=st.from_regex(r"\A[a-z]{3,9}_zz\Z"))
def test_an_unknown_key_is_refused_at_any_depth(path, key):
    config = copy.deepcopy(CONFIG)
    node = config
    for step in path:
        node = node[step]
    node[key] = 1
    with pytest.raises(StudyError) as error:
        check_config(config)
    assert f"{'.'.join((*path, key))}: unknown key" in str(error.value)


def test_an_experiment_can_be_switched_off():
    assert check_config(merge(CONFIG, {"experiments": {"curves": None}}))["experiments"]["curves"] is None


@pytest.mark.parametrize("off", [False, "off"])  # YAML reads a plain off as false
def test_graphs_can_be_switched_off(off):
    assert check_config(merge(CONFIG, {"graphs": off}))["graphs"] != "auto"
    with pytest.raises(StudyError, match=r"graphs: 'never' is not one of auto, off"):
        check_config(merge(CONFIG, {"graphs": "never"}))


def test_defaults_are_filled_in():
    config = copy.deepcopy(CONFIG)
    for key in ("device", "precision", "threads", "on_damaged", "report"):
        del config[key]
    del config["recipes"]["adamw20"]["augmentation"]
    checked = check_config(config)
    assert (checked["device"], checked["precision"], checked["threads"]) == ("auto", "auto", 1)
    assert checked["report"]["plots"] == {"dpi": 200, "band": "sd"}
    assert checked["recipes"]["adamw20"]["augmentation"]["rotation"] == 0
    assert checked["experiments"]["curves"]["train_sizes"] == ["all"]


def test_a_recipe_may_be_named_as_anything():
    recipes = dict.fromkeys(("default", "cifar10"), CONFIG["recipes"]["adam10"])
    check_config(merge(copy.deepcopy(CONFIG), {"recipes": recipes}))


def test_values_by_dataset():
    recipe = check_config(CONFIG)["recipes"]["adam10"]
    assert resolve(recipe["batch_size"], "imagenet200") == 64
    assert resolve(recipe["batch_size"], "cifar10") == 128
    assert resolve(recipe, "imagenet200")["augmentation"]["rotation"] == 15
    assert resolve(recipe, "cifar100")["normalization"] == {"mean": [0.5] * 3, "std": [0.5] * 3}


def test_text_is_read_where_something_else_is_meant():
    """As Snakemake hands over --config: what stands inside a list or a mapping is text."""
    change = {
        "seeds": ["7", "8"],
        "experiments": {"curves": "null", "data_efficiency": {"train_sizes": ["all", "100"]}},
        "recipes": {
            "adam10": {"epochs": "1", "lr": "1e-3", "hold_out": "true", "batch_size": {"imagenet200": "32"}},
            "adamw20": {"augmentation": {"rotation": "5"}, "normalization": {"mean": ["0.5", "0.5", "0.5"]}},
        },
        "models": {
            "vit": {"title": "12", "depth": "2", "final_norm": "false"},
            "cnn": {"blocks": ["1", "1", "1"]},
        },
    }
    config = check_config(merge(CONFIG, change))
    assert config["seeds"] == [7, 8]
    assert config["experiments"]["curves"] is None
    assert config["experiments"]["data_efficiency"]["train_sizes"] == ["all", 100]
    recipe = config["recipes"]["adam10"]
    assert (recipe["epochs"], recipe["lr"], recipe["hold_out"]) == (1, 0.001, True)
    assert recipe["batch_size"] == {"default": 128, "imagenet200": 32}
    assert config["recipes"]["adamw20"]["augmentation"]["rotation"] == 5
    assert config["recipes"]["adamw20"]["normalization"]["mean"] == [0.5, 0.5, 0.5]
    model = config["models"]["vit"]
    assert (model["title"], model["depth"], model["final_norm"]) == ("12", 2, False)
    assert config["models"]["cnn"]["blocks"] == [1, 1, 1]


def test_a_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    for content in (b"seeds: [1\n", b"title: K\xe4fer\n"):
        path.write_bytes(content)
        with pytest.raises(StudyError, match=r"config\.yaml: is no YAML"):
            load_config(path)
    with pytest.raises(StudyError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seeds: [1]\nrecipes: {}\nseeds: [2]\n",
            r"mine\.yaml, line 3: seeds is there twice, first in line 1",
        ),
        ("a: [b, {c: 1,\n  c: 2}]\n", r"mine\.yaml, line 2: a\.1\.c is there twice"),
    ],
)
def test_a_key_that_is_there_twice_is_named(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message):
        load_config(path)


def test_a_merged_mapping_may_be_changed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: &base {lr: 1}\nother: {<<: *base, lr: 2}\n")
    refuse_repeated_keys(path)


def test_the_schema_and_config_yaml_name_the_same_keys():
    """Every key of the schema stands in config.yaml: a user finds all there is in one place."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert set(schema["properties"]) == set(CONFIG)
    recipe = schema["properties"]["recipes"]["additionalProperties"]["properties"]
    text = (ROOT / "config.yaml").read_text()
    for key in {*recipe, *recipe["augmentation"]["properties"]}:
        assert re.search(rf"\b{key}\b", text), key


@pytest.mark.parametrize(
    "claim",
    [
        {"metric": "train_seconds", "within": 60},
        {"metric": ["final", "best"], "larger": "CNN"},
        {"metric": "final", "larger": "CNN", "together": True},
        {"untold": "nobody measured it"},
    ],
)
def test_a_primary_claim_is_one_test(claim):
    with pytest.raises(StudyError, match=r'claims\.mine: "So it is": primary: true needs a single metric'):
        check_config(merge(CONFIG, {"claims": {"mine": claims_of(**claim, primary=True)}}))
