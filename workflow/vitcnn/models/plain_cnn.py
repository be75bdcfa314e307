"""A plain convolutional network: 3×3 convolution, ReLU and 2×2 max-pooling, then two linear layers."""

from torch import Tensor, nn

FAMILY = "CNN"


class PlainCNN(nn.Module):
    """As many convolutions as `channels` has entries, each halving the image."""

    def __init__(self, image_size: int, num_classes: int, channels: list[int], hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        side = image_size // 2 ** len(channels)
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(channels[-1] * side**2, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, classes)
        return self.classifier(self.features(x))


def build(*, image_size: int, num_classes: int, channels: list[int], hidden: int) -> PlainCNN:
    """Return a plain convolutional network for images of `image_size` pixels a side."""
    return PlainCNN(image_size, num_classes, channels, hidden)


def named_layers(model: PlainCNN) -> dict[str, nn.Module]:
    """Return the layers whose representations are studied: each pooling, and the hidden layer."""
    pools = [module for module in model.features if isinstance(module, nn.MaxPool2d)]
    return {f"pool {n}": pool for n, pool in enumerate(pools, start=1)} | {"hidden": model.classifier[2]}


def cam_layer(model: PlainCNN) -> nn.Module:
    """Return the last ReLU before a pooling, whose map is the finer one."""
    return model.features[-2]
