"""torchvision's automatic augmentations, image by image, as on PIL images.

Only runs whose recipe names one import torchvision, so this module is loaded by its name.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandAugment, TrivialAugmentWide

POLICIES = {
    policy.__name__: policy for policy in (TrivialAugmentWide, RandAugment)
}  # arXiv 2103.10158, 1909.13719


def apply_policy(name: str, images: Tensor, seeds: Tensor) -> Tensor:
    """Return `images (N, 3, S, S) uint8`, on the CPU, each augmented by the policy of that name.

    An image becomes what torchvision makes of it after `torch.manual_seed` of its seed, of `seeds (N,) int64`.
    The state of torch's own generator is restored.
    """
    policy = POLICIES[name]()
    before = torch.get_rng_state()
    augmented = torch.empty_like(images)
    for place, (image, seed) in enumerate(zip(images, seeds.tolist(), strict=True)):
        torch.default_generator.manual_seed(seed)
        picture = policy(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()))
        augmented[place] = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    torch.set_rng_state(before)
    return augmented
