"""Small random memories, and the plain read that every reader is compared with. Sizes all differ."""

import torch
from einops import einsum, rearrange

from tmrn_edu.memory import Query
from tmrn_edu.memory.affinity import softmax_over_memory

B, O, T, CK, CV, H, W = 2, 3, 4, 5, 7, 6, 8
INDICES = (0, 3, 5, 11)  # frame numbers in the video; the query is frame 13
QUERY_INDEX = 13


class Case:
    """Keys, values and a query in float64, as leaves that take gradients; `frames(reader)` stores them in a reader."""

    def __init__(self, t=T, b=B, o=O, h=H, w=W, dtype=torch.float64, gradients=False):
        draw = lambda *shape: torch.randn(*shape, dtype=dtype)
        self.keys, self.query_key = draw(b, t, CK, h, w), draw(b, CK, h, w)
        self.values = draw(b, o, t, CV, h, w)
        self.shrinkage = 1 + draw(b, t, 1, h, w) ** 2
        self.selection = draw(b, CK, h, w).sigmoid()
        self.leaves = (self.keys, self.query_key, self.values, self.shrinkage, self.selection)
        for leaf in self.leaves:
            leaf.requires_grad_(gradients)

    def frames(self, reader, order=None, exact_first=True):
        return [
            reader.store(
                self.keys[:, i], self.values[:, :, i], INDICES[i], exact_first and i == 0, self.shrinkage[:, i]
            )
            for i in (range(self.keys.shape[1]) if order is None else order)
        ]

    @property
    def query(self):
        return Query(self.query_key, QUERY_INDEX, self.selection)

    def read(self, reader, insides=False, order=None):
        return reader(self.frames(reader, order), self.query, insides)

    def plain(self, similarity, top_k=None):
        """Dense einsums over all memory pixels at once: `b o cv h w`."""
        score = similarity(self.keys, self.query_key, self.shrinkage, self.selection)
        affinity = softmax_over_memory(score, top_k)
        values = rearrange(self.values, "b o t cv h w -> b o t cv (h w)")
        read = einsum(values, affinity, "b o t cv m, b t m q -> b o cv q")
        return rearrange(read, "b o cv (h w) -> b o cv h w", w=self.query_key.shape[-1])

    def gradients(self, readout):
        """Of a fixed weighted sum of the readout, with respect to all inputs; zeros where one is not used."""
        weights = torch.linspace(-1, 1, readout.numel(), dtype=readout.dtype).reshape(readout.shape)
        grads = torch.autograd.grad((weights * readout).sum(), self.leaves, allow_unused=True, retain_graph=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(self.leaves, grads, strict=True)]
