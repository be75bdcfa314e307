"""Vision Transformer (Dosovitskiy et al., 2021, arXiv 2010.11929), pre-norm, with a class token.

Layer by layer what torch.nn.TransformerEncoder(TransformerEncoderLayer(norm_first=True)) computes:
its layers are copies of one, and so start from the same weights; no norm follows the last one unless
`final_norm` asks for it. Names of the parameters are those of timm.
"""

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcnn.models import Probability
from vitcnn.models.dropout import Dropout

FAMILY = "ViT"


class Attention(nn.Module):
    """Multi-head self-attention, initialised as torch.nn.MultiheadAttention is."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.drop = Dropout(dropout)
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.qkv.weight)  # the three matrices as one, as torch does
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:  # (N, L, D) -> (N, queries or L, D)
        q, k, v = self._split(x, queries)
        if self.training and self.drop.masks is not None:
            weights, scale = self.drop.unscaled(self._weights(q, k))
            x = weights @ (v * scale)
        else:
            p = self.drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return self.proj(x.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """Return the attention weights `(N, heads, L, L)` for an input `(N, L, D)`, without dropout."""
        q, k, _ = self._split(x, None)
        return self._weights(q, k)

    def _split(self, x: Tensor, queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
        count, length, _ = x.shape
        qkv = self.qkv(x).view(count, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.contiguous()  # as one copy: products of small strided matrices are slow
        return q[:, :, :queries], k, v

    @staticmethod
    def _weights(q: Tensor, k: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):  # which would take the softmax out of bf16
            return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, embed_dim: int, hidden: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden)
        self.act = {"relu": nn.ReLU, "gelu": nn.GELU}[activation]()
        self.drop = Dropout(dropout)
        self.fc2 = nn.Linear(hidden, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(self.act(self.fc1(x))))


class Block(nn.Module):
    """A pre-norm encoder layer."""

    def __init__(
        self, embed_dim: int, num_heads: int, mlp_ratio: float, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attn = Attention(embed_dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = Mlp(embed_dim, int(embed_dim * mlp_ratio), activation, dropout)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:  # (N, L, D) -> (N, queries or L, D)
        x = self._add(x[:, :queries], self.attn(self.norm1(x), queries))
        return self._add(x, self.mlp(self.norm2(x)))

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        branch, scale = self.drop.unscaled(branch)
        return torch.add(x, branch, alpha=scale)


class VisionTransformer(nn.Module):
    """Patches and a class token through the encoder; the class token alone reaches the head.

    So the last block is computed for that token alone: nothing else of it is read.
    """

    def __init__(
        self,
        num_patches: int,
        patch_size: int,
        num_classes: int,
        embed_dim: int,
        blocks: nn.Sequential,
        pos_dropout: float,
        pos_embed_std: float,
        final_norm: bool,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, num_patches + 1, embed_dim) * pos_embed_std)
        self.pos_drop = Dropout(pos_dropout)
        self.blocks = blocks
        self.norm = nn.LayerNorm(embed_dim) if final_norm else nn.Identity()
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, classes)
        x = self.embed(x)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.head(self.norm(self.blocks[-1](x, queries=1)[:, 0]))

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens `(N, L, D)` that enter the first block."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.pos_drop(x + self.pos_embed)

    @torch.inference_mode()
    def attention(self, x: Tensor) -> Tensor:
        """Return the attention weights of every block, `(N, depth, heads, L, L)`, in the model's mode."""
        x, weights = self.embed(x), []
        for block in self.blocks:
            weights.append(block.attn.weights(block.norm1(x)))
            x = block(x)
        return torch.stack(weights, dim=1)


def build(
    *,
    image_size: int,
    num_classes: int,
    patch_size: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    mlp_ratio: float = 4.0,
    activation: Literal["relu", "gelu"] = "gelu",
    dropout: Probability = 0.0,
    pos_dropout: Probability = 0.0,
    pos_embed_std: float = 0.02,
    final_norm: bool = True,
    copied_layers: bool = True,
) -> VisionTransformer:
    """Return a Vision Transformer; `dropout` acts on attention weights and in and after both branches.

    With `copied_layers` all blocks begin as copies of the first, as those of torch.nn.TransformerEncoder do.
    """

    def new_block() -> Block:
        return Block(embed_dim, num_heads, mlp_ratio, activation, dropout)

    first = new_block()
    others = (copy.deepcopy(first) if copied_layers else new_block() for _ in range(depth - 1))
    return VisionTransformer(
        num_patches=(image_size // patch_size) ** 2,
        patch_size=patch_size,
        num_classes=num_classes,
        embed_dim=embed_dim,
        blocks=nn.Sequential(first, *others),
        pos_dropout=pos_dropout,
        pos_embed_std=pos_embed_std,
        final_norm=final_norm,
    )


def named_layers(model: VisionTransformer) -> dict[str, nn.Module]:
    """Return the layers whose representations are studied: the embedded tokens and each block."""
    return {"embedding": model.pos_drop} | {f"block {n}": b for n, b in enumerate(model.blocks, start=1)}


def cam_layer(model: VisionTransformer) -> nn.Module:
    """Return the last module that every token passes and from which the head still reads them all."""
    return model.blocks[-1].norm1
