"""A small residual network of basic blocks (He et al., 2016, arXiv 1512.03385, section 4.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

FAMILY = "CNN"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the shortcut is a 1×1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3×3 stem, stages of basic blocks that halve the image from the second on, mean, linear."""

    def __init__(self, num_classes: int, channels: list[int], blocks: list[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        stages, width = [], channels[0]
        for stage, (out_channels, count) in enumerate(zip(channels, blocks, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layers = []
            for stride in strides:
                layers.append(BasicBlock(width, out_channels, stride))
                width = out_channels
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, classes)
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.stages(x).mean(dim=(2, 3)))


def build(*, image_size: int, num_classes: int, channels: list[int], blocks: list[int]) -> ResNet:
    """Return a residual network with `blocks[i]` blocks of `channels[i]` channels in stage i."""
    return ResNet(num_classes, channels, blocks)


def named_layers(model: ResNet) -> dict[str, nn.Module]:
    """Return the layers whose representations are studied: the stem, before its ReLU, and each block."""
    blocks = {
        f"block {stage}.{n}": block
        for stage, blocks in enumerate(model.stages, start=1)
        for n, block in enumerate(blocks, start=1)
    }
    return {"stem": model.bn1} | blocks


def cam_layer(model: ResNet) -> nn.Module:
    """Return the last module whose output is a map."""
    return model.stages
