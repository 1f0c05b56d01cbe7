"""Painting a scene: layers from the bottom to the top, colours from their textures, then lens, light and noise.

First only two integers per pixel are decided: which layer is on top, and which entry of its texture shows. Colours are
looked up once, after the last layer, so a layer costs only its geometry, inside a window around it. Ours.
"""

import numpy as np
from einops import rearrange

from .shapes import swing, to_local
from .textures import crop_table, draw_look, draw_table


def _windows(layer, poses, height, width):
    """Per frame, the rows and columns a layer can be in: origins "t", "t" and one size for all frames."""
    if layer.silhouette is None:
        zeros = np.zeros(len(poses.centre[0]), np.int64)
        return zeros, zeros, height, width
    # |A (u', v')| <= sum of |entries| * (half width + wave), row by row
    bound = [layer.half_width + amplitude for amplitude, _, _ in poses.waves]
    a = [np.abs(entry).max() for entry in poses.matrix]
    reach = [int(np.ceil(a[row] * bound[0] + a[row + 1] * bound[1])) + 1 for row in (0, 2)]
    sizes = [min(2 * r + 1, side) for r, side in zip(reach, (height, width))]
    origins = [
        np.clip(np.round(c[:, 0, 0]).astype(np.int64) - r, 0, side - size)
        for c, r, size, side in zip(poses.centre, reach, sizes, (height, width))
    ]
    return *origins, *sizes


def _stack(scene, times, tables, height, width):
    """Paint layer numbers, and which entry of the textures to show, from the bottom up: two arrays "t H W".

    `tables`: per layer (index of its first entry, entries per side, entries per local unit).
    """
    top = np.zeros((len(times), height, width), np.int8)
    entry = np.zeros((len(times), height, width), np.int32)
    for index in scene.order:
        layer, (start, count, density) = scene.layers[index], tables[index]
        pose = layer.motion.pose(times[:, None, None])
        y0, x0, rows, columns = _windows(layer, pose, height, width)
        y = (y0[:, None] + np.arange(rows)[None, :])[:, :, None]
        x = (x0[:, None] + np.arange(columns)[None, :])[:, None, :]
        u, v = to_local(pose, y, x)
        covered = layer.covers(u, v)
        row = np.clip((u * density + count / 2).astype(np.int32), 0, count - 1)
        column = np.clip((v * density + count / 2).astype(np.int32), 0, count - 1)
        texel = start + row * count + column
        for t in range(len(times)):
            where = slice(y0[t], y0[t] + rows), slice(x0[t], x0[t] + columns)
            np.copyto(top[t][where], np.int8(index), where=covered[t])
            np.copyto(entry[t][where], texel[t], where=covered[t])
    return top, entry


def _through_the_lens(colours, softness, gain, grain):
    """What a camera does to "t H W 3": a small blur, light, noise. Integers only, so equal on every machine.

    The blur is (1, 2**softness - 2, 1) / 2**softness in both directions; `gain` "t" is in 1/128.
    """
    middle, total = np.uint16(2**softness - 2), 2 * softness
    image = colours.astype(np.uint16)
    padded = np.pad(image, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    image = padded[:, :-2] + padded[:, 2:] + middle * image
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
    image = padded[:, :, :-2] + padded[:, :, 2:] + middle * image
    image = (image + np.uint16(2 ** (total - 1))) >> np.uint16(total)
    image = (image * gain.astype(np.uint16)[:, None, None, None] + np.uint16(64)) >> np.uint16(7)
    return np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def _noise_levels(strength):
    """256 signed levels, spread like a bell of standard deviation `strength`: a random byte picks one."""
    share = (np.arange(256) + 0.5) / 256
    bell = np.log(share / (1 - share)) * (np.sqrt(3) / np.pi)  # logistic quantiles: closed form, standard deviation 1
    return np.round(strength * bell).astype(np.int16)


def paint(rng, scene, frames, height, width, pictures=None):
    """The pixels of a scene: frames "t H W 3" and layers "t H W"; `pictures`, uint8 "H W 3" each, may stand in for textures."""
    unit = min(height, width) / 96
    families = {id(layer.family): layer.family for layer in scene.layers}  # look-alikes share theirs
    looks = {} if pictures is None else {key: draw_look(rng, family, pictures) for key, family in families.items()}
    atlas, tables, start = [], [], 0
    for index, layer in enumerate(scene.layers):
        density = 1.25 if index == 0 else 1.75  # table entries per pixel
        half_width = layer.half_width * layer.motion.radius / unit
        resolution, look = min(density * unit, 512 / half_width), looks.get(id(layer.family))
        if look is None:
            table = draw_table(rng, layer.family, half_width, resolution, jitter=4.0)
        else:
            table = crop_table(rng, look, half_width, resolution, jitter=4.0)
        tables.append((start, len(table), len(table) / (2 * layer.half_width)))
        atlas.append(rearrange(table, "u v c -> (u v) c"))
        start += len(atlas[-1])
    atlas = np.concatenate(atlas)
    softness, levels = rng.randint(2, 5), _noise_levels(rng.uniform(1.0, 3.5))
    images, tops = np.empty((frames, height, width, 3), np.uint8), np.empty((frames, height, width), np.int8)
    chunk = max(1, 8 * 96 * 96 // (height * width))  # frames at a time: temporary arrays stay in the cache
    for first in range(0, frames, chunk):
        part = slice(first, min(first + chunk, frames))
        times = np.arange(part.start, part.stop)
        tops[part], entry = _stack(scene, times, tables, height, width)
        gain = np.round(128 * sum(swing(row, times) for row in scene.light))
        colours = np.take(atlas, entry, axis=0)
        noise = np.frombuffer(rng.bytes(colours.size), np.uint8)
        grain = np.take(levels, rearrange(noise, "(t h w c) -> t h w c", t=len(times), h=height, w=width))
        images[part] = _through_the_lens(colours, softness, gain, grain)
    return images, tops
