"""Looking inside one read: a query frame, memory frames with known masks, and everything the reader did. What pictures are drawn from."""

import copy
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
from tmrn_edu.memory.agents import AgentDescription
from tmrn_edu.memory.readers import Insides, Readout


@dataclass(frozen=True)
class AgentMaps:
    """Which agent answers for which pixel: TMRN's agents of every memory frame, and what they say of both frames. Sums to one over a."""

    memory: Float[Tensor, "t a m"]  # r[a,m]: pixels of the memory frame under its own agents
    query: Float[Tensor, "t a q"]  # p[a,q]: pixels of the query frame under the agents of memory frame t


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
    agents: AgentMaps | None = None  # of a reader that has agents

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
    insides, number = result.readouts[0].insides, 0
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
        agents=_agent_maps(network.reader, stored, result.features.key, number),
    )


PARTS = {
    "agents": "rectify",
    "chaining": "beta",
    "mutual": "mutual",
}  # what can be switched off, by the number that makes it count


def without(network: nn.Module, *parts: str) -> nn.Module:
    """A copy of a network whose reader does not use some of its `parts`: "agents", "chaining" or "mutual". No weight is trained anew.

    The number in front of the part (lambda, beta, gamma; see `TrajectoryReader`) becomes 0; what was learned beside it stays, so this shows what
    the part does in this network, not what a network trained without it would do. Raises InputError for a part that the reader does not have.
    Source: ours.
    """
    for part in parts:
        if getattr(network.reader, PARTS.get(part, ""), None) is None:
            there = [name for name, number in PARTS.items() if getattr(network.reader, number, None) is not None]
            seen = f"{part!r} asked for, {type(network.reader).__name__} has {', '.join(there) or 'none of them'}"
            raise InputError(f"{seen}; expected one of {', '.join(PARTS)}")
    network = copy.deepcopy(network)
    with torch.no_grad():
        for part in parts:
            getattr(network.reader, PARTS[part]).zero_()
    return network


def _agent_maps(reader: nn.Module, stored: Sequence, query_key: Tensor, number: int) -> AgentMaps | None:
    """Agents of memory frames that have some; `number`: the object whose keys they are made of, where every object has its own (STM)."""
    if getattr(reader, "agents", None) is None or stored[0].description is None:
        return None
    features = reader.agents.features(query_key)
    memory, query = [], []
    for frame in stored:
        of = AgentDescription(**{name: part[number : number + 1] for name, part in vars(frame.description).items()})
        memory.append(of.likelihood[0])
        query.append(reader.agents.likelihood(features, of)[0])
    return AgentMaps(torch.stack(memory).cpu(), torch.stack(query).cpu())
