"""What config.yaml says of a dataset: the layouts there are, and a place as one string of its `source`."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vitcnn.errors import suggest

# The module of each layout. It has ROOT, by layout what a dataset's folder holds, in words, is_root(), which
# finds that folder, and decode(), which reads every image.
READERS = {
    "cifar10": "cifar",
    "cifar100": "cifar",
    "tiny_imagenet": "tiny_imagenet",
    "image_csv": "image_csv",
    "image_folder": "image_folder",
    "parquet": "parquet",
    "torchvision": "torchvision_sets",
}
IMAGE_SIZES = {"cifar10": 32, "cifar100": 32, "tiny_imagenet": 64}  # pixels
# The others hold images of any size and number; a dataset's settings say what becomes of them.
ANY_SIZE = READERS.keys() - IMAGE_SIZES
# The classes of torchvision.datasets that data/torchvision_sets.py reads.
TORCHVISION = (
    "DTD",
    "FGVCAircraft",
    "FashionMNIST",
    "Flowers102",
    "Food101",
    "GTSRB",
    "KMNIST",
    "MNIST",
    "OxfordIIITPet",
    "STL10",
    "SVHN",
    "USPS",
)
_HEX_DIGITS = {"md5": 32, "sha256": 64}
_SECRET = re.compile(r"//[^/]*@|[?&][^=&]*(token|key|secret|passw|sig|auth|credential)[^=&]*=", re.IGNORECASE)


def shown(text: str) -> str:
    """Return an entry of a source list as it may be shown: without what looks like a secret."""
    return re.sub(r"//[^/]*@", "//…@", text.partition("?")[0] + "?…") if _SECRET.search(text) else text


def is_generated(places: Iterable[str]) -> bool:
    """Return whether a source list may give generated images: one `embedded:` place in it is enough."""
    return any(Source.parse(text).kind == "embedded" for text in places)


def reading_settings(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a dataset that decide how its images are read, beside its layout."""
    if dataset["layout"] not in ANY_SIZE:
        return {}
    return {
        "image_size": dataset["image_size"],
        "resize": dataset.get("resize", "error"),
        "test_share": dataset.get("test_share"),
    }


class Source(NamedTuple):
    """`kind` is kaggle, torchvision, url, path or embedded; `location` is what follows; `checksum` is (algorithm, hex)."""

    kind: str
    location: str
    checksum: tuple[str, str] | None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read one entry of a source list; raises ValueError with what is wrong with it."""
        location, mark, fragment = text.partition("#")
        checksum = None
        if mark:
            algorithm, _, value = fragment.partition("=")
            if not re.fullmatch(rf"[0-9a-fA-F]{{{_HEX_DIGITS.get(algorithm, 0)}}}", value) or not value:
                raise ValueError("what follows # must be md5= and 32, or sha256= and 64, hexadecimal digits")
            checksum = (algorithm, value.lower())
        scheme, colon, rest = location.partition(":")
        if scheme == "kaggle" and colon:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+(/versions/\d+)?", rest):
                raise ValueError("a Kaggle dataset is written kaggle:OWNER/DATASET")
            if checksum:
                raise ValueError("Kaggle hands out a folder, which has no checksum")
            return cls("kaggle", rest, None)
        if scheme == "torchvision" and colon:
            if rest not in TORCHVISION:
                raise ValueError(f"is none of {', '.join(TORCHVISION)}{suggest(rest, TORCHVISION)}")
            if checksum:
                raise ValueError("torchvision checks what it downloads itself; leave the checksum out")
            return cls("torchvision", rest, None)
        if scheme in ("http", "https"):
            if not re.match(r"//[^/\s]+/\S", rest):
                raise ValueError("is no complete URL of a file")
            if _SECRET.search(location):  # logs and records name the place
                raise ValueError(
                    "has a password or a token in it, which would be written to logs and records; "
                    "put it into ~/.netrc, or download the file and name its path"
                )
            return cls("url", location, checksum)
        if scheme == "embedded" and colon:
            return cls("embedded", rest, checksum)
        if colon and rest.startswith("//"):
            raise ValueError(f"{scheme}:// is not supported; use https://, kaggle:, torchvision: or a path")
        if not location.strip():
            raise ValueError("names no place")
        try:
            return cls("path", str(Path(location).expanduser()), checksum)
        except RuntimeError as error:
            raise ValueError(f"{error}; write the whole path") from error
