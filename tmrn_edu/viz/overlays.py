"""Masks on frames: one stable, colour-blind-safe colour per object id. Ours."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Integer, UInt8
from torch import Tensor

from tmrn_edu.masks import VOID

# Okabe and Ito, "Color Universal Design" (2008): seven colours that stay apart for all common kinds of colour vision.
# Their eighth, black, is left to the background.
OKABE_ITO = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermillion
    (204, 121, 167),  # reddish purple
)


def _palette():
    base = np.array(OKABE_ITO, dtype=np.float64)
    # Ids 8 to 14 are lighter, 15 to 21 darker; then it starts again, as no eye keeps 22 colours apart anyway.
    shades = np.concatenate([base, base + 0.5 * (255 - base), 0.55 * base])
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[1:VOID] = shades[np.arange(VOID - 1) % len(shades)].round()
    return torch.from_numpy(colours)


PALETTE: UInt8[Tensor, "256 3"] = _palette()  # row = object id; 0 (background) and 255 (void) are black


def overlay(
    frame: UInt8[Tensor | np.ndarray, "H W 3"],
    index_mask: Integer[Tensor | np.ndarray, "H W"],
    alpha: float | int = 0.5,
    contour: bool = True,
    thickness: int | None = None,
) -> UInt8[Tensor, "H W 3"]:
    """Lay the objects' colours over a frame.

        picture = (1 - alpha) frame + alpha PALETTE[id]     inside objects; the frame itself elsewhere and on void

    `alpha` in [0, 1]; 0 leaves an object's own colours as they are. `contour` draws the rim of every object in its full
    colour, `thickness` pixels wide (None: one per 240 rows), with a thin dark line around it, so that it reads on
    bright and dark ground. Returns uint8 `H W 3`. Raises `ValueError` for an alpha outside [0, 1], a thickness below 1,
    labels outside 0..255, or a mask of another size than the frame.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}, expected 0 to 1")
    if thickness is not None and thickness < 1:
        raise ValueError(f"thickness is {thickness}, expected at least 1 pixel")
    picture = torch.as_tensor(frame).cpu().numpy().copy()
    labels = torch.as_tensor(index_mask).cpu().numpy()
    if labels.shape != picture.shape[:2]:
        raise ValueError(f"the mask is {labels.shape}, the frame is {picture.shape[:2]}: expected the same H W")
    if labels.size and (labels.min() < 0 or labels.max() > VOID):
        raise ValueError(f"mask labels go from {labels.min()} to {labels.max()}, expected 0 to {VOID}")
    labels = labels.astype(np.uint8)
    labels[labels == VOID] = 0

    rows, columns = np.nonzero(labels)
    if len(rows) == 0:
        return torch.from_numpy(picture)
    # All work happens in the box around the objects: small objects in large frames cost next to nothing.
    thickness = max(1, round(labels.shape[0] / 240)) if thickness is None else thickness
    reach = thickness + 1
    box = (
        slice(max(rows.min() - reach, 0), rows.max() + reach + 1),
        slice(max(columns.min() - reach, 0), columns.max() + reach + 1),
    )
    labels, part = labels[box], picture[box]
    colours = PALETTE.numpy()
    inside = labels > 0
    # Both terms are tables of 256 entries in 1/256 of a grey level: blending is two look-ups, a sum and a shift, and
    # 128 rounds to the nearest level. The largest sum, 255 * 256 + 128, still fits 16 bits.
    dimmed = ((1 - alpha) * 256 * np.arange(256)).astype(np.uint16)
    tints = (alpha * 256 * colours).astype(np.uint16) + 128
    part[inside] = (dimmed[part[inside]] + tints[labels[inside]]) >> 8
    if contour:
        rim = inside & _edge(labels, thickness)
        halo = ~inside & _edge(labels, 1)
        part[rim] = colours[labels[rim]]
        part[halo] = part[halo] // 3
    return torch.from_numpy(picture)


def clip_picture(
    frames: UInt8[Tensor, "t H W 3"], above: Integer[Tensor, "t H W"], below: Integer[Tensor, "t H W"]
) -> UInt8[np.ndarray, "Hs Ws 3"]:
    """Two rows of frames, one with each set of masks, as one array: the true ones above, those that were found below, say."""
    rows = [
        torch.stack([overlay(frame, mask) for frame, mask in zip(frames, masks, strict=True)])
        for masks in (above, below)
    ]
    return rearrange(torch.stack(rows), "r t H W c -> (r H) (t W) c").numpy()


def contact_sheet(
    frames: UInt8[Tensor | np.ndarray, "t H W 3"],
    masks: Integer[Tensor | np.ndarray, "t H W"] | None = None,
    columns: int = 4,
    titles: list[str] | None = None,
    alpha: float | int = 0.5,
    dpi: float | int = 100,
    thickness: int | None = None,
):
    """Frames side by side, masks laid over them, as one matplotlib `Figure`.

    `columns` frames a row, each 2.4 `dpi` pixels wide; `titles` one per frame ("frame 0", ... when None); `alpha` and
    `thickness` as in `overlay`: `alpha=0, thickness=2` shows small frames in their own colours. The figure
    belongs to no window and to no pyplot state: show it by naming it at the end of a notebook cell, keep it with
    `figure.savefig(path)`. Raises `ValueError` where frames, masks and titles differ in number.
    """
    from matplotlib.figure import Figure  # here, since matplotlib costs more to import than overlays to draw

    frames = torch.as_tensor(frames)
    count, height, width = frames.shape[:3]
    titles = [f"frame {index}" for index in range(count)] if titles is None else list(titles)
    if count == 0 or columns < 1:
        raise ValueError(f"{count} frames in {columns} columns: expected at least one of each")
    if masks is not None and len(masks) != count:
        raise ValueError(f"{len(masks)} masks for {count} frames: expected one each")
    if len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} frames: expected one each")

    columns = min(columns, count)
    rows = -(-count // columns)
    panel = 2.4  # inches a panel is wide; titles take a fixed strip above each
    figure = Figure(figsize=(panel * columns, (panel * height / width + 0.25) * rows), dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for index, axis in enumerate(axes):
        axis.set_axis_off()
        if index < count:
            picture = frames[index]
            if masks is not None:
                picture = overlay(picture, masks[index], alpha=alpha, thickness=thickness)
            axis.imshow(np.asarray(picture), interpolation="nearest" if height < 160 else "antialiased")
            axis.set_title(titles[index], fontsize=8, pad=2)
    return figure


def _edge(labels, thickness):
    """Pixels with another label within `thickness` steps up, down, left or right."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in range(1, thickness + 1):
        vertical = labels[step:] != labels[:-step]
        edge[step:] |= vertical
        edge[:-step] |= vertical
        horizontal = labels[:, step:] != labels[:, :-step]
        edge[:, step:] |= horizontal
        edge[:, :-step] |= horizontal
    return edge
