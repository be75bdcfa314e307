"""Train in bf16 on a processor without its instructions, as fast as in fp32.

  python tests/speed/rounded.py [arguments of workflow/scripts/train.py]

A bf16 product on hardware multiplies the rounded factors exactly, adds in fp32 and rounds the sum once. Here the
rounded factors are multiplied in fp32 and the result is rounded, which is the same but for the order of adding;
torch's own bf16 products on such a processor take 30 times as long. All other operations are torch's.
"""

import runpy
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.convolution.default,
    aten.convolution_backward.default,
}


class RoundedProducts(TorchDispatchMode):
    """Compute products of bf16 tensors in fp32, and round what comes out."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in args if isinstance(x, torch.Tensor)]
        if func not in PRODUCTS or not tensors or tensors[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        found = func(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {}))
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, found)


if __name__ == "__main__":
    sys.argv[0] = str(Path(__file__).parents[2] / "workflow/scripts/train.py")
    with RoundedProducts():
        runpy.run_path(sys.argv[0], run_name="__main__")
