"""Corrupted images: each method against its formula or another library, the run's accuracies, the tables."""

import colorsys
import copy
import io

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, SMALL, jobs, merge, snakemake
from PIL import Image
from scipy import ndimage, stats

from vitcnn import plan
from vitcnn.config import check_config
from vitcnn.contradictions import CORRUPTED_SIZES
from vitcnn.data.corruptions import CONSTANTS, CORRUPTIONS, SEVERITIES, corrupt, plasma
from vitcnn.data.packed import load_packed
from vitcnn.errors import StudyError
from vitcnn.files import read_json
from vitcnn.models.weights import load_model
from vitcnn.provenance.record import fingerprint
from vitcnn.representations.corrupted import corrupt_run
from vitcnn.results.corruptions import differences, read_corrupted, report, tabulate
from vitcnn.results.sections import to_html, to_markdown
from vitcnn.training.run import train_run

RAW = yaml.safe_load((ROOT / "config.yaml").read_text())
FP32 = check_config(merge(RAW, SMALL)) | {"precision": "fp32"}
EVERY = pytest.mark.parametrize("name", CORRUPTIONS)
SIZES = pytest.mark.parametrize("size", CONSTANTS)


def pictures(size=32, count=6):
    """Return images with large shapes and detail, `(N, 3, S, S) uint8`."""
    rng = np.random.default_rng(size)
    large = ndimage.gaussian_filter(rng.random((count, 3, size, size)), (0, 0, size / 8, size / 8))
    large = (large - large.min()) / np.ptp(large)
    return (255 * (0.7 * large + 0.3 * rng.random((count, 3, size, size)))).astype(np.uint8)


def grey(value=128, count=4, size=32):
    return np.full((count, 3, size, size), value, np.uint8)


def greys(count):
    """Return grey images that differ in one value: equal images have equal noise."""
    images = grey(count=count)
    images[:, 0, 0, 0] += np.arange(count, dtype=np.uint8)
    return images


def change(images, name, severity):
    """Return the mean absolute change."""
    return np.abs(corrupt(images, name, severity).astype(int) - images).mean()


# What all have in common ---------------------------------------------------------------------------


@SIZES
@EVERY
def test_each_severity_changes_an_image_in_one_way_whatever_is_beside_it(name, size):
    images = pictures(size, 3)
    before = images.copy()
    seen = []
    for severity in SEVERITIES:
        found = corrupt(images, name, severity)
        assert found.shape == images.shape and found.dtype == np.uint8
        assert not np.array_equal(found, images)
        assert np.array_equal(found, corrupt(images[::-1], name, severity)[::-1])
        assert np.array_equal(found[1:2], corrupt(images[1:2], name, severity))
        seen.append(found.tobytes())
    assert len(set(seen)) == len(SEVERITIES)
    assert np.array_equal(images, before)


@SIZES
@EVERY
def test_a_higher_severity_changes_more(name, size):
    """But glass blur: its first three severities move pixels alike, and the fourth blurs less than the third."""
    changes = [change(pictures(size, 20), name, severity) for severity in SEVERITIES]
    if name == "glass_blur":
        assert changes[-1] > changes[0]
    else:
        assert np.all(np.diff(changes) > 0)


def test_eleven_methods_have_five_published_constants_each():
    assert len(CORRUPTIONS) == 11 and tuple(CONSTANTS) == CORRUPTED_SIZES
    for constants in CONSTANTS.values():
        assert list(constants) == list(CORRUPTIONS)
        assert all(len(constant) == len(SEVERITIES) for constant in constants.values())


def test_other_sizes_have_no_severities():
    with pytest.raises(StudyError, match="images of 32 and 64 pixels, not of 28"):
        corrupt(grey(size=28), "fog", 1)


# Each on its own -----------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_on_grey_has_its_sd_and_is_cut_off_to_bytes(severity):
    images = greys(20)
    noise = corrupt(images, "gaussian_noise", severity).astype(float) - images
    sd = 255 * CONSTANTS[32]["gaussian_noise"][severity - 1]
    assert noise.std() == pytest.approx((sd**2 + 1 / 12) ** 0.5, rel=0.01)
    assert noise.mean() == pytest.approx(-0.5, abs=0.5)  # cut off, not rounded


def test_noise_differs_between_images_and_severities():
    images = grey()
    images[1, 0, 0, 0] = 129
    noise = [corrupt(images, "gaussian_noise", severity).astype(float) - 128 for severity in (1, 2)]
    assert np.array_equal(noise[0][0], noise[0][2])  # the same image
    for one, other in ((noise[0][0], noise[0][1]), (noise[0][0], noise[1][0])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / 3072**0.5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_is_poissons(severity):
    photons = CONSTANTS[32]["shot_noise"][severity - 1]
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] + grey(40, 20)
    found = corrupt(images, "shot_noise", severity)
    x = images / 255
    expected = x.mean() * 255 - np.where(255 % photons, 0.5, 0)
    assert found.mean() == pytest.approx(expected, abs=0.6)
    spread = ((found + 0.5 - x * 255) ** 2).mean() ** 0.5
    assert spread == pytest.approx(255 * (x / photons).mean() ** 0.5, rel=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_takes_its_share_half_of_it_white(severity):
    images = greys(20)
    found = corrupt(images, "impulse_noise", severity)
    hit = found != images
    assert set(np.unique(found[hit])) == {0, 255}
    share = CONSTANTS[32]["impulse_noise"][severity - 1]
    assert stats.binomtest(int(hit.sum()), hit.size, share).pvalue > 1e-4
    assert stats.binomtest(int((found[hit] == 255).sum()), int(hit.sum())).pvalue > 1e-4


def point(size):
    image = np.zeros((1, 3, size, size), np.uint8)
    image[..., 10, 12] = 255
    return image


@SIZES
@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_spreads_a_point_over_its_disk(severity, size):
    radius, sd = CONSTANTS[size]["defocus_blur"][severity - 1]
    found = corrupt(point(size), "defocus_blur", severity)[0, 0]
    y, x = np.mgrid[:size, :size] - np.array([10, 12])[:, None, None]
    disk = ((x**2 + y**2 <= radius**2) / (x**2 + y**2 <= radius**2).sum()).astype(float)
    # A kernel of three values, as OpenCV makes it: truncate ends it there.
    soft = ndimage.gaussian_filter(disk, sd, radius=1, mode="constant") if sd > 0.02 else disk
    assert np.abs(found - soft * 255).max() <= 1
    assert np.abs(corrupt(grey(), "defocus_blur", severity).astype(int) - 128).max() <= 1  # also at the edges


def test_zoom_blur_is_the_mean_of_enlarged_images():
    images = pictures(32, 2)
    x = images / 255
    total = x.copy()
    factors = np.arange(1, 1.16, 0.01)
    for factor in factors:
        kept = int(np.ceil(32 / factor))
        top = (32 - kept) // 2
        zoomed = ndimage.zoom(x[..., top : top + kept, top : top + kept], (1, 1, factor, factor), order=1)
        trim = (zoomed.shape[-1] - 32) // 2
        total += zoomed[..., trim : trim + 32, trim : trim + 32]
    expected = 255 * total / (len(factors) + 1)
    assert np.abs(corrupt(images, "zoom_blur", 3) - expected).max() < 1.001


class Scripted:
    """A stream that draws what it is told to."""

    def __init__(self, values):
        self.values = values

    def integers(self, low, high, shape):
        return np.broadcast_to(self.values, shape)


@pytest.mark.parametrize(("size", "severity"), [(32, 4), (64, 4), (64, 5)])
def test_glass_blur_copies_pixel_by_pixel_as_published(size, severity):
    """Against the loop in which the authors mean to swap two pixels, and NumPy's views make it a copy."""
    sd, far, times = CONSTANTS[size]["glass_blur"][severity - 1]
    images = pictures(size, 2)
    length = (size - 2 * far) ** 2
    moves = np.random.default_rng(1).integers(-far, far, (2, times, length, 2))
    found = CORRUPTIONS["glass_blur"](images, (sd, far, times), [Scripted(moves[0]), Scripted(moves[1])])
    for image, moved, result in zip(images, moves, found, strict=True):
        x = image.transpose(1, 2, 0) / 255
        x = np.uint8(ndimage.gaussian_filter(x, (sd, sd, 0), mode="nearest") * 255)
        for time in range(times):
            step = iter(moved[time])
            for h in range(size - far, far, -1):
                for w in range(size - far, far, -1):
                    dx, dy = next(step)
                    x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
        x = ndimage.gaussian_filter(x / 255, (sd, sd, 0), mode="nearest") * 255
        assert np.allclose(result, x.transpose(2, 0, 1))


def test_a_cloud_is_that_of_midpoints_drawn_one_by_one():
    """Of a torus of 4×4, written out place by place."""
    noise = np.random.default_rng(3).uniform(-1, 1, (4, 4))

    class Stream:
        def uniform(self, low, high, shape):
            return noise

    m, much = np.zeros((4, 4)), [100.0**2, 50.0**2]
    m[2, 2] = 4 * m[0, 0] / 4 + much[0] * noise[2, 2]
    m[0, 2] = (2 * m[2, 2] + 2 * m[0, 0]) / 4 + much[0] * noise[0, 2]
    m[2, 0] = (2 * m[2, 2] + 2 * m[0, 0]) / 4 + much[0] * noise[2, 0]
    for i in (1, 3):
        for j in (1, 3):
            around = [m[(i + a) % 4, (j + b) % 4] for a in (-1, 1) for b in (-1, 1)]
            m[i, j] = sum(around) / 4 + much[1] * noise[i, j]
    for i in range(4):
        for j in range(4):
            if (i + j) % 2:
                around = [m[(i + 1) % 4, j], m[i - 1, j], m[i, (j + 1) % 4], m[i, j - 1]]
                m[i, j] = sum(around) / 4 + much[1] * noise[i, j]
    assert np.allclose(plasma(4, 2, [Stream()])[0], (m - m.min()) / np.ptp(m))


def test_fog_keeps_the_brightest_value_and_adds_light_to_black():
    image = pictures(32, 1)
    image[0, :, 0, 0] = 255
    assert corrupt(image, "fog", 1).max() <= 255
    dark = grey(0, 1)
    dark[0, :, 0, 0] = 100
    found = corrupt(dark, "fog", 3)
    assert found.max() <= 100 and found[0, 0, 5:, 5:].max() > 20
    assert np.array_equal(found[0, 0], found[0, 1])  # the same cloud in every channel


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_v_of_hsv(severity):
    more = CONSTANTS[32]["brightness"][severity - 1]
    images = pictures(32, 1)
    images[0, :, 0, :3] = [[0, 255, 7], [0, 255, 7], [0, 255, 200]]
    found = corrupt(images, "brightness", severity)
    for before, after in zip(images[0].reshape(3, -1).T, found[0].reshape(3, -1).T, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(before / 255))
        expected = np.array(colorsys.hsv_to_rgb(h, s, min(v + more, 1))) * 255
        assert np.abs(after - expected).max() < 1.001


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_is_its_formula(severity):
    share = CONSTANTS[32]["contrast"][severity - 1]
    images = pictures()
    expected = share * images + (1 - share) * images.mean((2, 3), keepdims=True)
    found = corrupt(images, "contrast", severity)
    assert np.abs(found + 0.5 - expected).max() < 0.501


@SIZES
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity, size):
    images = pictures(size, 2)
    share, quality = (CONSTANTS[size][name][severity - 1] for name in ("pixelate", "jpeg_compression"))
    pixelated, compressed = (corrupt(images, name, severity) for name in ("pixelate", "jpeg_compression"))
    for n, image in enumerate(images):
        picture = Image.fromarray(image.transpose(1, 2, 0))
        small = picture.resize((int(size * share), int(size * share)), Image.Resampling.BOX)
        again = small.resize((size, size), Image.Resampling.BOX)
        assert np.array_equal(pixelated[n].transpose(1, 2, 0), np.asarray(again))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        assert np.array_equal(compressed[n].transpose(1, 2, 0), np.asarray(Image.open(file)))


# The tables ----------------------------------------------------------------------------------------


def study(seeds=3):
    """Return entries of runs and what was measured of them."""
    rng = np.random.default_rng(0)
    entries, found = [], {}
    for model, family in (("vit", "ViT"), ("cnn", "CNN")):
        for seed in range(seeds):
            run = plan.Run("cifar10", model, "adam10", "all", seed)
            entries.append(
                run._asdict()
                | {"folder": str(run.folder), "title": model.upper(), "family": family, "experiments": ["e"]}
            )
            corrupted = {name: rng.uniform(20, 60, 5).tolist() for name in CORRUPTIONS}
            mean = float(np.mean(list(corrupted.values())))
            found[run.folder] = {
                "clean": 70.0 + seed,
                "corrupted": corrupted,
                "mean_of_11": mean,
                "relative": 100 * mean / (70 + seed),
            }
    return entries, found


def test_the_table_and_the_differences_computed_again():
    entries, found = study()
    runs = read_corrupted(entries, found)
    table, apart = tabulate(runs), differences(runs, {"e": None, "f": None})
    vit, cnn = (
        [found[plan.Run("cifar10", m, "adam10", "all", s).folder] for s in range(3)] for m in ("vit", "cnn")
    )
    row = table.set_index("model").loc["CNN"]
    assert (row["clean"], row["clean sd"], row["seeds"]) == (71, 1, 3)
    fog = [np.mean(run["corrupted"]["fog"]) for run in cnn]
    assert (row["fog"], row["fog sd"]) == pytest.approx((np.mean(fog), np.std(fog, ddof=1)))
    (row,) = apart.itertuples()
    ours, theirs = ([run["mean_of_11"] for run in side] for side in (vit, cnn))
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert (row.mean, row.low, row.high) == pytest.approx((np.mean(ours) - np.mean(theirs), *interval))
    assert row.names == "VIT − CNN"
    assert list(differences(runs, {"e": [["cnn", "vit"]]})["names"]) == ["CNN − VIT"]
    page = report(table, apart, "T", False)
    for shown in (to_markdown(page), to_html(page)):
        assert "never mCE" in shown and "71.0 ± 1.0" in shown and "Generated" not in shown
        assert "one seed" not in shown and "; mean ± standard deviation over seeds. Relative" in shown
        assert "over severities and seeds" in shown and "Welch" in shown
        assert f"[{row.low:+.2f}, ".replace("-", "−") in shown
    assert "Generated images" in to_html(report(table, apart, "T", True))


def test_one_seed_has_no_interval():
    runs = read_corrupted(*study(1))
    shown = to_markdown(report(tabulate(runs), differences(runs, {"e": None}), "T", False))
    assert "± 0" not in shown and "– |" in shown
    assert shown.count("; one seed: no interval.") == 2
    assert not any(words in shown for words in ("±", "over seeds", "and seeds", "Welch"))


def test_a_damaged_file_is_named():
    entries, found = study()
    found[next(iter(found))] = {"clean": 1}
    with pytest.raises(StudyError, match=r"seed0/corruptions\.json: is damaged"):
        read_corrupted(entries, found)


# The configuration and the workflow ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "cifar1"}, "corruptions.dataset: cifar1 is no dataset; did you mean cifar10?"),
        ({"experiments": ["curve"]}, "corruptions.experiments: curve is no experiment; did you mean curves?"),
    ],
)
def test_names_that_lead_nowhere(change, said):
    raw = copy.deepcopy(RAW)
    raw["corruptions"] |= change
    with pytest.raises(StudyError) as error:
        check_config(raw)
    assert said in str(error.value)


def test_a_dataset_of_another_size_is_refused():
    other = {"title": "O", "layout": "image_folder", "image_size": 48, "num_classes": 2, "source": ["x"]}
    raw = merge(RAW, {"datasets": {"other": other}, "corruptions": {"dataset": "other"}})
    with pytest.raises(StudyError, match="images of 48 pixels; severities are published for 32 and 64"):
        check_config(raw)


def test_its_record_follows_the_model_and_every_method(default_config):
    (run, *_) = plan.probed_runs(default_config, "corruptions")
    code = fingerprint("corrupt_run", {"spec": plan.run_spec(default_config, run)})["code"]
    assert {"models/vit.py: build", *(f"data/corruptions.py: {name}" for name in CORRUPTIONS)} <= code.keys()


def test_clean_accuracy_is_that_of_the_training(data, tmp_path):
    spec = copy.deepcopy(plan.run_spec(FP32, plan.Run("cifar10", "simple_cnn", "adamw10", "all", 0)))
    spec["recipe"] |= {"epochs": 1}
    train_run(spec, data, tmp_path, "cpu", 1)
    found = corrupt_run(spec, tmp_path / "model.safetensors", data, "cpu", 1)
    assert found["clean"] == pytest.approx(read_json(tmp_path / "metrics.json")["accuracy"]["final"])
    assert list(found["corrupted"]) == list(CORRUPTIONS)
    values = [value for five in found["corrupted"].values() for value in five]
    assert len(values) == 55 and found["mean_of_11"] == pytest.approx(np.mean(values))
    assert found["relative"] == pytest.approx(100 * found["mean_of_11"] / found["clean"])
    images, labels = load_packed(data).test
    dark = torch.from_numpy(corrupt(images, "contrast", 5)) / 255
    scale = (torch.tensor(spec["recipe"]["normalization"][key])[:, None, None] for key in ("mean", "std"))
    mean, std = scale
    with torch.inference_mode():
        right = (
            load_model(spec, tmp_path / "model.safetensors")((dark - mean) / std).argmax(1).numpy() == labels
        )
    assert found["corrupted"]["contrast"][4] == pytest.approx(100 * right.mean())
    with pytest.raises(StudyError, match="are not weights of simple_vit as it is configured"):
        other = plan.run_spec(FP32, plan.Run("cifar10", "simple_vit", "adamw10", "all", 0))
        corrupt_run(other, tmp_path / "model.safetensors", data, "cpu", 1)


def test_they_are_one_name_away_and_no_part_of_the_study(tmp_path):
    """Planned, and once made from nothing: of one model and one seed."""
    asked = {
        "experiments": {"curves": None, "data_efficiency": None},
        "corruptions": {"dataset": "cifar10", "experiments": ["comparison"]},
    }
    planned = jobs(snakemake(tmp_path, "--dry-run", "corruptions", config=asked))
    assert (planned["train"], planned["corrupt_run"], planned["tabulate_corruptions"]) == (4, 4, 1)
    assert "corrupt_run" not in jobs(snakemake(tmp_path, "--dry-run", config=asked))
    off = snakemake(tmp_path, "--dry-run", "corruptions", config=asked | {"corruptions": None})
    assert off.returncode != 0
    assert "corruptions: {dataset: cifar10, experiments: [comparison]}" in off.stdout + off.stderr
    small = merge(asked, {"seeds": [0], "experiments": {"comparison": {"models": ["cnn"]}}})
    done = snakemake(tmp_path, "corruptions", config=small)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / plan.Run("cifar10", "cnn", "adam10", "all", 0).folder
    table = pd.read_csv(tmp_path / "results/tables/corruptions.csv")
    assert table["mean_of_11"].tolist() == pytest.approx([read_json(run / "corruptions.json")["mean_of_11"]])
    assert "Generated images" in (tmp_path / "results/tables/corruptions.html").read_text()
    assert "To be trained: 1 run(s)" in done.stdout + done.stderr
    announced = "1 run(s) are measured on corrupted images"
    assert announced in done.stdout + done.stderr
    (run / "corruptions.json").unlink()
    again = snakemake(tmp_path, "corruptions", config=small)
    assert again.returncode == 0 and (run / "corruptions.json").exists()
    assert "To be trained" not in again.stdout + again.stderr
    assert announced in again.stdout + again.stderr
    said = snakemake(tmp_path, "audit", config=small).stdout
    assert "results/collected" in said and "corruptions.json" not in said and "tables/corruptions" not in said
