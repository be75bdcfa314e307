"""How alike two layers' features are: unbiased minibatch CKA, plain and without what the pixels explain.

Centred kernel alignment (Kornblith et al., 2019, arXiv 1905.00414) with the unbiased estimator of Nguyen
et al. (2021, arXiv 2010.15327), which holds for any size of batch: the biased one calls independent noise
alike where features outnumber images. Deconfounding follows Cui et al. (2022, arXiv 2202.00095): what the
similarity of the pixels explains is projected out. All of it is a dot product of unit vectors, so a layer
is stored as one vector.
"""

from collections.abc import Iterable

import numpy as np

# Images: a smaller batch makes a smaller vector, and the estimator stays unbiased. Those of 500 gave a CKA that
# differs by at most 0.007, between two seeds of the CNN on 2,000 images of CIFAR-100.
BATCH = 100


def centred_gram(features: np.ndarray) -> np.ndarray:
    """Return the U-centred linear Gram matrix `(N, N)` of features `(N, …)`, with zeros on its diagonal.

    K̃ᵢⱼ = Kᵢⱼ − (rᵢ + rⱼ) / (N−2) + ΣK / ((N−1)(N−2)) for i ≠ j, r the row sums of K without its diagonal
    (Székely and Rizzo, 2014, arXiv 1310.2926). Its rows sum to 0. N is at least 4.
    """
    x = features.reshape(len(features), -1).astype(np.float64)
    count = len(x)
    gram = x @ x.T
    np.fill_diagonal(gram, 0)
    rows = gram.sum(1)
    gram -= (rows[:, None] + rows[None, :]) / (count - 2) - rows.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(gram, 0)
    return gram


def gram_vector(grams: Iterable[np.ndarray]) -> np.ndarray:
    """Return the centred Gram matrices of several batches as one vector, float16, of mean square 1.

    It is their upper triangles, one after the other: `batches · N(N−1)/2` numbers. All zeros for
    features that do not differ between images.
    """
    vector = np.concatenate([gram[np.triu_indices(len(gram), 1)] for gram in grams])
    scale = np.sqrt(np.square(vector).mean())
    return (vector / scale if scale else vector).astype(np.float16)


def cka(vectors: np.ndarray) -> np.ndarray:
    """Return CKA `(L, L)` between all of the vectors `(L, P)` of gram_vector(); nan for one of zeros."""
    unit = vectors.astype(np.float32)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, length, out=np.full_like(unit, np.nan), where=length > 0)
    return unit @ unit.T


def deconfound(vectors: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return vectors `(L, P)` without their component along the pixels' vector `(P,)`."""
    along = pixels.astype(np.float32)
    along = along / np.linalg.norm(along)
    vectors = vectors.astype(np.float32)
    return vectors - (vectors @ along)[:, None] * along


def error_consistency(correct: np.ndarray, other: np.ndarray) -> float:
    """Return κ of which images two models get right, `(N,) bool` each: 1 for the same, 0 for chance.

    Geirhos et al. (2020), arXiv 2006.16736: κ = (c_obs − c_exp) / (1 − c_exp). nan where chance is certain.
    """
    observed = float((correct == other).mean())
    p, q = float(correct.mean()), float(other.mean())
    expected = p * q + (1 - p) * (1 - q)
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")
