"""Similarity: how alike a memory pixel and a query pixel are, before any softmax.

Every function maps memory keys `b t ck h w` (or one frame's, `b ck h w`) and query keys `b ck h w` to scores `b t m q` (`b m q`):
m and q are positions, rows first. All take the same arguments, so a reader can be given any of them.

Shape and storage differ on purpose: the shape reads `m q`, yet each query pixel's scores lie side by side in memory, because the
softmax and the top-k that follow walk over m.
"""

from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor


def _overlap(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """sum_c memory[m, c] query[q, c] for all pairs."""
    memory = rearrange(memory_key, "b ... ck h w -> b ... ck (h w)")
    query = rearrange(query_key, "b ck h w -> b (h w) ck")
    overlap = einsum(query, memory, "b q ck, b ... ck m -> b ... q m")  # this is how it is stored, too
    return rearrange(overlap, "b ... q m -> b ... m q")


def dot_product(
    memory_key: Float[Tensor, "b *t ck hm wm"],
    query_key: Float[Tensor, "b ck h w"],
    shrinkage: Float[Tensor, "b *t 1 hm wm"] | None = None,
    selection: Float[Tensor, "b ck h w"] | None = None,
) -> Float[Tensor, "b *t m q"]:
    """STM's similarity: the scaled dot product.

    s[t,m,q] = <key_t[m], query[q]> / sqrt(ck). Any real; a long key wins everywhere. `shrinkage` and `selection` are not used.
    Source: STM (ICCV 2019), "Space-time Memory Read"; the scale is the authors' code.
    """
    return _overlap(memory_key, query_key * query_key.shape[1] ** -0.5)


def negative_squared_l2(
    memory_key: Float[Tensor, "b *t ck hm wm"],
    query_key: Float[Tensor, "b ck h w"],
    shrinkage: Float[Tensor, "b *t 1 hm wm"] | None = None,
    selection: Float[Tensor, "b ck h w"] | None = None,
) -> Float[Tensor, "b *t m q"]:
    """STCN's similarity: the negative squared Euclidean distance, up to a term that no softmax sees.

    s[t,m,q] = (2 <key_t[m], query[q]> - |key_t[m]|^2) / sqrt(ck) = (|query[q]|^2 - |key_t[m] - query[q]|^2) / sqrt(ck).
    |query|^2 is the same for all memory pixels, so it is left out (method, identity 4). `shrinkage` and `selection` are not used.
    Source: STCN (NeurIPS 2021), "Similarity Function".
    """
    scale = query_key.shape[1] ** -0.5
    overlap = _overlap(memory_key, 2 * scale * query_key)
    return overlap.sub_(scale * reduce(memory_key**2, "b ... ck h w -> b ... (h w) 1", "sum"))


def anisotropic_l2(
    memory_key: Float[Tensor, "b *t ck hm wm"],
    query_key: Float[Tensor, "b ck h w"],
    shrinkage: Float[Tensor, "b *t 1 hm wm"] | None = None,
    selection: Float[Tensor, "b ck h w"] | None = None,
) -> Float[Tensor, "b *t m q"]:
    """XMem's similarity: a squared distance weighted per channel by the query and sharpened per pixel by the memory.

    s[t,m,q] = - shrinkage_t[m] * sum_c selection[q,c] (key_t[m,c] - query[q,c])^2 / sqrt(ck).
    shrinkage >= 1 (`b t 1 h w`), selection in [0, 1] (`b ck h w`); None stands for ones. The query's own square stays: shrinkage
    multiplies it, so it differs between memory pixels (method, identity 4). Always <= 0 up to rounding.
    Source: XMem (ECCV 2022), "Memory Reading".
    """
    scale = query_key.shape[1] ** -0.5
    if selection is None:
        selection = query_key.new_ones(query_key.shape)
    cross = _overlap(memory_key, 2 * scale * selection * query_key)
    memory_square = _overlap(memory_key**2, scale * selection)
    query_square = reduce(scale * selection * query_key**2, "b ck h w -> b 1 (h w)", "sum")
    if memory_key.ndim > query_key.ndim:  # the same row of q for every memory frame
        query_square = rearrange(query_square, "b one q -> b 1 one q")
    negative_distance = cross - memory_square - query_square
    if shrinkage is None:
        return negative_distance
    return negative_distance * rearrange(shrinkage, "b ... 1 h w -> b ... (h w) 1")
