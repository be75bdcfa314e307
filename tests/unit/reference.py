"""The notebooks' four models built plainly from torch.nn layers, to hold the project's against."""

import torch
from torch import nn


class EncoderViT(nn.Module):
    """A ViT on nn.TransformerEncoder: `pos_std` and `norm` are what sets the two notebooks apart."""

    def __init__(
        self, size, patch, classes, depth, heads, activation, pos_dropout, pos_std, norm, dropout=0.1
    ):
        super().__init__()
        dim = 128
        self.proj = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * pos_std)
        self.drop = nn.Dropout(pos_dropout)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout, activation=activation, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.encoder(self.drop(x)))[:, 0])


class Residual(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.side = nn.Sequential()
        if stride > 1:
            self.side = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x):
        return torch.relu(self.main(x) + self.side(x))


def residual_cnn(classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Residual(16, 16, 1),
        Residual(16, 16, 1),
        Residual(16, 32, 2),
        Residual(32, 32, 1),
        Residual(32, 64, 2),
        Residual(64, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def plain_cnn(classes, size):
    layers = []
    for inside, outside in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    side = size // 8
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(128 * side * side, 256), nn.ReLU(), nn.Linear(256, classes)
    )


def create(model, size, classes, dropout=0.1):
    """Return the plain counterpart of one of the four models."""
    patch = size // 8
    if model == "vit":
        return EncoderViT(size, patch, classes, 6, 8, "relu", dropout, 0.0, False, dropout)
    if model == "simple_vit":
        return EncoderViT(size, patch, classes, 4, 4, "gelu", 0.0, 0.02, True, dropout)
    return residual_cnn(classes) if model == "cnn" else plain_cnn(classes, size)


# How the project's names follow from torch.nn's, for the ViTs; the CNNs' states stand in the same order.
_NAMES = {
    "cls": "cls_token",
    "pos": "pos_embed",
    "proj": "patch_embed",
    "self_attn.in_proj_weight": "attn.qkv.weight",
    "self_attn.in_proj_bias": "attn.qkv.bias",
    "self_attn.out_proj": "attn.proj",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
    "encoder.layers": "blocks",
}


def translate(state):
    """Return a plain ViT's state under the project's names."""
    translated = {}
    for name, value in state.items():
        for theirs, ours in _NAMES.items():
            if name == theirs or name.startswith(f"{theirs}.") or f".{theirs}" in name:
                name = name.replace(theirs, ours)
        translated[name] = value
    return translated


def copy_state(plain, ours):
    """Load a plain module's state into its counterpart, entry by entry."""
    state = plain.state_dict()
    if isinstance(plain, EncoderViT):
        ours.load_state_dict(translate(state))
        return
    theirs, mine = list(state.items()), ours.state_dict()
    assert [value.shape for _, value in theirs] == [value.shape for value in mine.values()]
    ours.load_state_dict(dict(zip(mine, (value for _, value in theirs), strict=True)))
