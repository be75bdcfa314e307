"""What breaks a model: images with their tiles shuffled, partly covered, or shifted.

Shuffling and covering after Naseer et al. (2021, arXiv 2105.10497), shifts after Zhang (2019, arXiv
1904.11486). All act on pixels `(N, 3, S, S) uint8`, before normalisation.
"""

import torch
from torch import Tensor

CELLS = 8  # a side: the ViTs' patches, where there are 8×8 of them


def shuffle_tiles(images: Tensor, order: Tensor) -> Tensor:
    """Return the images cut into g×g tiles and put together in `order` `(N, g²)`, a permutation each.

    Place i, in reading order, shows tile `order[:, i]`. g must divide S.
    """
    count, channels, size, _ = images.shape
    grid = round(order.shape[1] ** 0.5)
    tile = size // grid
    tiles = images.view(count, channels, grid, tile, grid, tile).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = tiles[torch.arange(count, device=images.device)[:, None], order]
    return moved.unflatten(1, (grid, grid)).permute(0, 3, 1, 4, 2, 5).reshape(count, channels, size, size)


def cover_cells(images: Tensor, covered: Tensor, fill: Tensor, off_grid: bool = False) -> Tensor:
    """Return the images with some of their 8×8 cells, `covered` `(N, 64) bool`, filled with `fill` `(3,)`.

    With `off_grid` the cells lie half a cell down and to the right, those at the edge partly on the
    other side. Where 8 does not divide S, some cells are a pixel larger than others.
    """
    size = images.shape[-1]
    cell_of = torch.arange(size, device=images.device) * CELLS // size
    mask = covered.view(-1, 1, CELLS, CELLS)[:, :, cell_of[:, None], cell_of]
    if off_grid:
        half = size // CELLS // 2
        mask = mask.roll((half, half), (2, 3))
    return torch.where(mask, fill.view(1, 3, 1, 1), images)


def first_covered(order: Tensor, count: int) -> Tensor:
    """Return `(N, cells) bool`: which cells are the first `count` of each row of `order` `(N, cells)`."""
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :count], True)
