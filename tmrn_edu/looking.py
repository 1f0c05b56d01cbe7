"""Looking inside one read: a query frame, memory frames with known masks, and everything the reader did. What pictures are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from tmrn_edu.errors import InputError
from tmrn_edu.inference import memorize_frame, pad_frames, segment_frame
from tmrn_edu.inputs import check_frame
from tmrn_edu.masks import MAX_OBJECTS, VOID, index_to_object_masks, probabilities_to_index_mask
from tmrn_edu.memory.readers import Insides, Readout


@dataclass(frozen=True)
class Look:
    """One query frame read from memory frames with known masks: what figures and widgets are drawn from."""

    frames: UInt8[Tensor, "t H W 3"]  # the whole video
    index_masks: UInt8[Tensor, "t H W"]  # its masks
    query: int  # which frame asks
    memory: tuple[int, ...]  # which frames are read, in the order of time
    insides: Insides  # b = 1; where every object has an affinity of its own (STM), that of the object asked for
    readout: Readout  # b = 1
    predicted: UInt8[Tensor, "H W"]  # the query frame's masks as segmented
    cell: int  # pixels per grid cell; grid cell (y, x) covers pixels cell * y - offset ... of the frame
    offset: tuple[int, int]  # padding above and to the left of the frame, in pixels

    def pixel_to_cell(self, y: float | int, x: float | int) -> tuple[int, int]:
        """The grid cell that holds a pixel of the frame."""
        return int((y + self.offset[0]) // self.cell), int((x + self.offset[1]) // self.cell)

    def cell_to_pixel(self, position: Float[Tensor, "2 *any"]) -> Float[Tensor, "2 *any"]:
        """The pixel at the middle of a (fractional) grid position (y, x)."""
        offset = torch.tensor(self.offset, dtype=position.dtype)
        return (position + 0.5) * self.cell - 0.5 - offset.reshape(2, *[1] * (position.ndim - 1))


_PER_CLIP = ("affinity", "temporal_weights", "aligned_value", "trajectory")  # fields of Insides with an axis b


@torch.inference_mode()
def look(
    network: nn.Module, frames, index_masks, query: int, memory: Sequence[int], object_id: int | None = None
) -> Look:
    """Reads frame `query` from the frames `memory`, whose masks are given, and keeps the insides.

    `frames`: uint8 `t H W 3`; `index_masks`: integers `t H W`; objects are all labels of the memory frames. The frames are used at their own size.
    `object_id`: whose affinity is kept where every object has its own (STM); None is the first. Raises InputError for frame numbers outside
    the video, an empty memory, or an object that it does not hold. Source: ours.
    """
    frames, index_masks = torch.as_tensor(frames), torch.as_tensor(index_masks).to(torch.uint8)
    memory = tuple(sorted(int(t) for t in memory))
    outside = [t for t in (query, *memory) if not 0 <= t < len(frames)]
    if outside or not memory:
        raise InputError(
            f"frames {outside or 'none'} asked for, expected at least one memory frame, all from 0 to {len(frames) - 1}"
        )
    ids = [int(i) for i in index_masks[list(memory)].unique() if 0 < i != VOID]
    if not ids:
        raise InputError(
            f"masks of the memory frames {memory} hold no object, expected at least one label from 1 to {MAX_OBJECTS}"
        )
    if object_id is not None and object_id not in ids:
        raise InputError(f"object {object_id} asked for, masks of the memory frames {memory} hold {ids}")
    network.eval()
    device = next(network.parameters()).device
    picture = {t: rearrange(check_frame(frames[t], t), "c H W -> 1 c H W").to(device) for t in (query, *memory)}
    stored = [
        memorize_frame(
            network, picture[t], index_to_object_masks(index_masks[t : t + 1], ids).to(device), t, exact=t == memory[0]
        )
        for t in memory
    ]
    sensory = network.start_sensory(stored[0].key, len(ids))
    for frame in stored:  # XMem: as if nothing but these frames had been seen
        sensory = network.deep_update(sensory, frame)
    result = segment_frame(network, picture[query], [stored], query, insides=True, sensory=sensory)
    insides = result.readouts[0].insides
    if insides is None:
        raise InputError(
            f"{type(network.reader).__name__} returned no insides, expected memory.Insides when asked for them"
        )
    if len(insides.affinity) > 1:
        number = ids.index(ids[0] if object_id is None else object_id)
        insides = replace(insides, **{name: getattr(insides, name)[number : number + 1] for name in _PER_CLIP})
    padding = pad_frames(network, picture[query])[1]
    return Look(
        frames=frames,
        index_masks=index_masks,
        query=query,
        memory=memory,
        insides=insides,
        readout=result.readouts[0],
        predicted=probabilities_to_index_mask(result.probabilities[0], ids).cpu(),
        cell=network.cell,
        offset=(padding.top, padding.left),
    )
