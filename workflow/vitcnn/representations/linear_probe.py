"""How much of the classes a linear classifier reads from a layer (Alain and Bengio, 2017, arXiv 1610.01644)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitcnn.representations.layers import as_map, is_map

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
_HELD_OUT = 0.2  # of the training images, to choose the penalty on


def pooled(name: str, output: Tensor) -> dict[str, Tensor]:
    """Return the features `(N, D)` of a layer's output by name: the mean over places, and the class token."""
    if not is_map(output):
        return {name: output.flatten(1)}
    features = {name: as_map(output).mean((2, 3))}
    if output.ndim == 3 and output.shape[1] > as_map(output)[0, 0].numel():
        features[f"{name}, class token"] = output[:, 0]
    return features


def linear_probe(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], penalties: Sequence[float] = PENALTIES
) -> float:
    """Return the accuracy in % on `test` of a softmax regression fitted to `train`.

    Both are features `(N, D)` and labels `(N,)`. The penalty on the squared weights is the one that is
    best on the last fifth of the training images; the fit is then repeated on all of them.
    """
    features, labels = train
    kept = len(features) - round(_HELD_OUT * len(features))
    best = penalties[0]
    if len(penalties) > 1:
        fits = [fit(features[:kept], labels[:kept], penalty) for penalty in penalties]
        best = penalties[
            max(range(len(fits)), key=lambda i: _accuracy(fits[i](features[kept:]), labels[kept:]))
        ]
    return _accuracy(fit(features, labels, best)(test[0]), test[1])


def fit(features: Tensor, labels: Tensor, penalty: float, steps: int = 100) -> Callable[[Tensor], Tensor]:
    """Return a softmax regression fitted to features `(N, D)`, which are standardised, as a function to logits."""
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-6)
    x = (features - mean) / scale
    weight = torch.zeros(int(labels.max()) + 1, x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(len(weight), device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), labels) + penalty * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return lambda others: F.linear((others - mean) / scale, weight.detach(), bias.detach())


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return 100 * float((logits.argmax(1) == labels).double().mean())
