"""Eleven of the fifteen corruptions of CIFAR-10-C and Tiny ImageNet-C, each in five severities.

Hendrycks and Dietterich (2019, arXiv 1903.12261). Formulas, constants and order of operations are those of the authors'
make_cifar_c.py and make_tinyimagenet_c.py (github.com/hendrycks/robustness), with what they do unintended: numbers are
cut off to uint8 and not rounded, and glass blur copies a pixel where it means to swap two. The draws are this
project's own: they depend on corruption, severity and the image's pixels alone, where the published ones have no seed.
Left out are motion blur, snow, frost and elastic transform, which need ImageMagick, pictures of frost, or OpenCV.

The functions take images `(N, 3, S, S) uint8`, a severity's constant and a stream of random numbers for each image,
and return pixels of the same shape, from 0 to 255.
"""

import hashlib
import io
from collections.abc import Iterable

import numpy as np
from PIL import Image
from scipy import ndimage, sparse

from vitcnn.errors import StudyError

SEVERITIES = (1, 2, 3, 4, 5)
Streams = Iterable[np.random.Generator]


def corrupt(images: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Return images `(N, 3, S, S) uint8` corrupted by the method of that name; an image always comes out the same.

    Raises StudyError for a size S that no constants were published for.
    """
    size = images.shape[-1]
    if size not in CONSTANTS:
        known = " and ".join(map(str, CONSTANTS))
        raise StudyError(
            f"corruptions: have published severities for images of {known} pixels, not of {size}; name a dataset of "
            "such images in corruptions.dataset"
        )
    constant = CONSTANTS[size][name][severity - 1]
    streams = (_stream(image, name, severity) for image in images)
    return np.asarray(CORRUPTIONS[name](images, constant, streams)).astype(np.uint8)


def _stream(image: np.ndarray, name: str, severity: int) -> np.random.Generator:
    named = f"{name}/{severity}/".encode() + image.tobytes()
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big"))


def _to_bytes(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 1) * 255


def gaussian_noise(images: np.ndarray, sd: float, streams: Streams) -> np.ndarray:
    """Add normal noise."""
    noise = np.array([stream.normal(scale=sd, size=images.shape[1:]) for stream in streams])
    return _to_bytes(images / 255 + noise)


def shot_noise(images: np.ndarray, photons: float, streams: Streams) -> np.ndarray:
    """Draw each value from a Poisson distribution, white being so many photons."""
    x = images / 255
    counts = [stream.poisson(image * photons) for image, stream in zip(x, streams, strict=True)]
    return _to_bytes(np.array(counts) / photons)


def impulse_noise(images: np.ndarray, share: float, streams: Streams) -> np.ndarray:
    """Set a share of the values to 0 or 255."""
    draws = np.array([stream.random((2, *images.shape[1:])) for stream in streams])
    hit, white = draws[:, 0] < share, draws[:, 1] < 0.5
    return np.where(hit, np.where(white, 255, 0), images)


def defocus_blur(images: np.ndarray, constant: tuple[float, float], streams: Streams) -> np.ndarray:
    """Average over a disk, whose edge is softened: radius, sd of the softening."""
    radius, sd = constant
    reach = int(radius) + 1
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    soft = np.exp(-np.array([1, 0, 1]) / (2 * sd**2))
    soft /= soft.sum()
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, soft, axis, mode="constant")
    return _to_bytes(ndimage.correlate(images / 255, disk[None, None] / disk.sum(), mode="mirror"))


def glass_blur(images: np.ndarray, constant: tuple[float, int, int], streams: Streams) -> np.ndarray:
    """Blur, move pixels about, blur: sd, how far they move, how many times."""
    sd, far, times = constant
    count, _, size, _ = images.shape
    x = (_blurred(images / 255, sd) * 255).astype(np.uint8)
    line = np.arange(size - far, far, -1)
    places = (size * line[:, None] + line).ravel()
    # How far to the right and down, for each image, time and place.
    moves = np.array([stream.integers(-far, far, (times, len(places), 2)) for stream in streams])
    sources = places + moves @ [1, size]
    every = np.arange(count)
    pixels = np.ascontiguousarray(x.reshape(count, 3, -1).transpose(2, 0, 1))  # (S², N, 3)
    for time in range(times):
        for n, place in enumerate(places):  # in this order: a pixel may be copied on
            pixels[place] = pixels[sources[:, time, n], every]
    return _to_bytes(_blurred(pixels.transpose(1, 2, 0).reshape(images.shape) / 255, sd))


def _blurred(x: np.ndarray, sd: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (0, 0, sd, sd), mode="nearest")


def zoom_blur(images: np.ndarray, end: float, streams: Streams) -> np.ndarray:
    """Average the image and its middle, enlarged by 1.00, 1.01 and so on below `end`."""
    size = images.shape[-1]
    x = images.reshape(-1, size**2) / 255
    factors = np.arange(1, end, 0.01)
    lines = [_enlarging(size, factor) for factor in factors]
    whole = sum(sparse.kron(line, line, "csr") for line in lines)  # rows and columns at once, `(S², S²)`
    return _to_bytes((x + (whole @ x.T).T) / (len(factors) + 1)).reshape(images.shape)


def _enlarging(size: int, factor: float) -> np.ndarray:
    """Return the matrix `(S, S)` that enlarges the middle of a line, by linear interpolation."""
    kept = int(np.ceil(size / factor))
    top = (size - kept) // 2
    enlarged = ndimage.zoom(np.eye(size)[top : top + kept], (factor, 1), order=1)
    trim = (len(enlarged) - size) // 2
    return enlarged[trim : trim + size]


def fog(images: np.ndarray, constant: tuple[float, float], streams: Streams) -> np.ndarray:
    """Add a cloud, then darken to the former range: how much, how fast its detail fades."""
    much, decay = constant
    x = images / 255
    brightest = x.max((1, 2, 3), keepdims=True)
    return _to_bytes(
        (x + much * plasma(x.shape[-1], decay, streams)[:, None]) * brightest / (brightest + much)
    )


def plasma(size: int, decay: float, streams: Streams) -> np.ndarray:
    """Return a cloud `(N, S, S)`, from 0 to 1, for each stream, by the diamond-square algorithm on a torus.

    S is a power of two. Detail of half the size varies 1/decay² as much.
    """
    noise = np.array([stream.uniform(-1, 1, (size, size)) for stream in streams])
    cloud = np.zeros_like(noise)
    step, wibble = size, 100.0
    while step >= 2:
        corner, middle = slice(0, None, step), slice(step // 2, None, step)

        def fill(rows: slice, columns: slice, total: np.ndarray, much: float = wibble**2) -> None:
            cloud[:, rows, columns] = total / 4 + much * noise[:, rows, columns]

        corners = cloud[:, corner, corner]
        right = corners + np.roll(corners, -1, 2)
        fill(middle, middle, right + np.roll(right, -1, 1))
        middles = cloud[:, middle, middle]
        fill(corner, middle, middles + np.roll(middles, 1, 1) + right)
        fill(middle, corner, middles + np.roll(middles, 1, 2) + corners + np.roll(corners, -1, 1))
        step, wibble = step // 2, wibble / decay
    cloud -= cloud.min((1, 2), keepdims=True)
    return cloud / cloud.max((1, 2), keepdims=True)


def brightness(images: np.ndarray, more: float, streams: Streams) -> np.ndarray:
    """Raise V of HSV. Hue and saturation stay where the three channels keep their ratios; black becomes grey."""
    x = images / 255
    value = x.max(1, keepdims=True)
    share = np.divide(x, value, out=np.ones_like(x), where=value > 0)
    return _to_bytes(share * np.clip(value + more, 0, 1))


def contrast(images: np.ndarray, share: float, streams: Streams) -> np.ndarray:
    """Bring each channel nearer to its mean."""
    x = images / 255
    means = x.mean((2, 3), keepdims=True)
    return _to_bytes((x - means) * share + means)


def pixelate(images: np.ndarray, share: float, streams: Streams) -> np.ndarray:
    """Scale down and up again, each pixel the mean of those that it covers."""
    size = images.shape[-1]
    small = int(size * share)

    def scaled(picture: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return picture.resize((small, small), box).resize((size, size), box)

    return _from_pictures(scaled(picture) for picture in _to_pictures(images))


def jpeg_compression(images: np.ndarray, quality: int, streams: Streams) -> np.ndarray:
    """Write and read as JPEG."""

    def stored(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _from_pictures(stored(picture) for picture in _to_pictures(images))


def _to_pictures(images: np.ndarray) -> Iterable[Image.Image]:
    return (Image.fromarray(image) for image in np.ascontiguousarray(images.transpose(0, 2, 3, 1)))


def _from_pictures(pictures: Iterable[Image.Image]) -> np.ndarray:
    return np.array([np.asarray(picture) for picture in pictures]).transpose(0, 3, 1, 2)


CORRUPTIONS = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "zoom_blur": zoom_blur,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
}

_ZOOM = (1.06, 1.11, 1.16, 1.21, 1.26)  # the same in both
# By the images' size: of make_cifar_c.py and of make_tinyimagenet_c.py.
CONSTANTS = {
    32: {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "zoom_blur": _ZOOM,
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
    64: {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "zoom_blur": _ZOOM,
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
    },
}
