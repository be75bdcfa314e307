"""Compact Convolutional Transformer (Hassani et al., 2021, arXiv 2104.05704): convolutions cut the image into tokens.

Layers, initial weights and drop rates are those of the authors' code (SHI-Labs/Compact-Transformers), with a learned
position embedding.
"""

import torch
from torch import Tensor, nn

from vitcnn.models import Probability
from vitcnn.models.dropout import Dropout
from vitcnn.models.vit import Attention, Mlp

FAMILY = "ViT"


class DropPath(Dropout):
    """Stochastic depth (Huang et al., 2016, arXiv 1603.09382): sets a whole branch of some images to 0."""

    def unscaled(self, x: Tensor) -> tuple[Tensor, float]:
        kept, scale = super().unscaled(x.new_ones(len(x), 1, 1))
        return x * kept, scale


class EncoderLayer(nn.Module):
    """As the authors' code has it: the second norm is in the residual path, not before the second branch alone."""

    def __init__(
        self, embed_dim: int, num_heads: int, mlp_ratio: float, attention_dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = Attention(embed_dim, num_heads, attention_dropout)
        self.attn.qkv.bias = None  # the published one has none
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = Mlp(embed_dim, int(embed_dim * mlp_ratio), "gelu", dropout=0)
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (N, L, D) -> (N, L, D)
        x = self.norm2(x + self.drop(self.attn(self.norm1(x))))
        return x + self.drop(self.mlp(x))


class CompactTransformer(nn.Module):
    """Convolutions that each halve the image, an encoder of their places, and a mean that weighs each token."""

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        channels: list[int],
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, embed_dim = image_size, channels[-1]
        for in_channels, out_channels in zip([3, *channels], channels, strict=False):
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.ReLU()]
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            side = (side + 1) // 2
        self.tokenizer = nn.Sequential(*layers)
        self.pos_embed = nn.Parameter(torch.randn(1, side**2, embed_dim) * 0.2)
        rates = [drop_path * n / max(1, depth - 1) for n in range(depth)]  # 0 in the first layer
        self.blocks = nn.Sequential(
            *(EncoderLayer(embed_dim, num_heads, mlp_ratio, attention_dropout, rate) for rate in rates)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.pool = nn.Linear(embed_dim, 1)
        self.head = nn.Linear(embed_dim, num_classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, classes)
        x = self.tokenizer(x).flatten(2).transpose(1, 2) + self.pos_embed
        x = self.norm(self.blocks(x))
        weights = self.pool(x).softmax(1)  # (N, L, 1)
        return self.head((weights.transpose(1, 2) @ x).squeeze(1))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)  # published as cut off at ±2, which nothing reaches
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    *,
    image_size: int,
    num_classes: int,
    channels: list[int],
    depth: int,
    num_heads: int,
    mlp_ratio: float,
    attention_dropout: Probability = 0.1,
    drop_path: Probability = 0.1,
) -> CompactTransformer:
    """Return a Compact Convolutional Transformer with a 3×3 convolution for each of `channels`.

    The last of them is the tokens' dimension. A branch of the last layer is dropped with probability `drop_path`,
    those of the layers before it evenly less often.
    """
    return CompactTransformer(
        image_size, num_classes, channels, depth, num_heads, mlp_ratio, attention_dropout, drop_path
    )


def named_layers(model: CompactTransformer) -> dict[str, nn.Module]:
    """Return the layers whose representations are studied: the tokens, without their places, and each block."""
    return {"tokens": model.tokenizer} | {f"block {n}": b for n, b in enumerate(model.blocks, start=1)}


def cam_layer(model: CompactTransformer) -> nn.Module:
    """Return the last module whose output has every token; the head reads their weighted mean."""
    return model.norm
