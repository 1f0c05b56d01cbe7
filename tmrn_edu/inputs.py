"""What inference accepts: frames, index masks, and what goes with them, checked before any work. All of it ours.

Each check returns the thing in the one form that the library uses, or raises an `InputError` that names both sides.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from tmrn_edu.errors import InputError
from tmrn_edu.masks import MAX_OBJECTS, VOID

PICTURES = "uint8 H W 3 or float 3 H W: data.video.read_video(path).frames has those of a file, segment_video.segment_video reads files itself"


def as_tensor(given, what: str, wanted: str) -> Tensor:
    """An array of any kind as a tensor; InputError for a path, a picture of another library, and whatever else is no array."""
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} is a {type(given).__name__}, expected {wanted}") from error


def check_frame(frame, index: int) -> Float[Tensor, "3 H W"]:
    """A frame as float RGB in [0, 1]. Takes uint8 `H W 3` or float `3 H W`; raises InputError for anything else, NaN included."""
    frame = as_tensor(frame, f"frame {index}", PICTURES)
    if frame.dtype == torch.uint8 and frame.ndim == 3 and frame.shape[-1] == 3 and frame.numel():
        return rearrange(frame, "H W c -> c H W").float() / 255
    if frame.is_floating_point() and frame.ndim == 3 and frame.shape[0] == 3 and frame.numel():
        frame = frame.float()
        if not torch.isfinite(frame).all():
            raise InputError(f"frame {index} holds NaN or infinite values, expected RGB in [0, 1]")
        if frame.min() < 0 or frame.max() > 1:
            raise InputError(
                f"frame {index} has values from {frame.min():.3g} to {frame.max():.3g}, expected RGB in [0, 1]"
            )
        return frame
    raise InputError(
        f"frame {index} is {frame.dtype} of shape {tuple(frame.shape)}, expected uint8 H W 3 or float 3 H W"
    )


def check_index_mask(index_mask, size: tuple[int, int], index: int) -> UInt8[Tensor, "H W"]:
    """An index mask as uint8. Raises InputError when it has another size than its frame, no object, or labels that are no labels."""
    mask = as_tensor(index_mask, f"mask of frame {index}", "integers H W: data.video.read_mask(path).index")
    if mask.ndim != 2 or tuple(mask.shape) != size:
        raise InputError(f"mask of frame {index} has shape {tuple(mask.shape)}, its frame has {size}")
    if mask.is_floating_point() or mask.is_complex():
        raise InputError(f"mask of frame {index} is {mask.dtype}, expected integer labels (0 background, 255 void)")
    mask = mask.to(torch.int64)  # 16-bit files are fine as long as their labels are
    labels = mask.unique().tolist()
    if labels[0] < 0 or labels[-1] > 255:
        raise InputError(
            f"mask of frame {index} has labels from {labels[0]} to {labels[-1]}, expected 0 to {MAX_OBJECTS} (and 255 for void)"
        )
    if not [i for i in labels if 0 < i != VOID]:
        raise InputError(
            f"mask of frame {index} holds no object (labels found: {labels}), expected at least one label from 1 to {MAX_OBJECTS}"
        )
    return mask.to(torch.uint8).cpu()


def stack_frames(frames: list[Tensor]) -> Tensor:
    for t, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise InputError(f"frame {t} has shape {tuple(frame.shape)}, frame 0 has {tuple(frames[0].shape)}")
    return torch.stack(frames) if frames else torch.empty(0)


def check_request(frames, masks: Mapping) -> None:
    count = len(frames) if frames.ndim else 0
    if not count or frames.ndim != 4:
        raise InputError(
            f"frames have shape {tuple(frames.shape)}, expected uint8 t H W 3 or float t 3 H W with at least one frame"
        )
    if not isinstance(masks, Mapping):
        raise InputError(f"masks are a {type(masks).__name__}, expected a dict {{frame number: index mask}}")
    if not masks:
        raise InputError("no mask was given, expected at least one: {frame number: index mask}")
    size = tuple(check_frame(frames[0], 0).shape[-2:])
    for t, mask in masks.items():
        if not 0 <= t < count:
            raise InputError(f"a mask was given for frame {t}, the video has frames 0 to {count - 1}")
        check_index_mask(mask, size, int(t))
