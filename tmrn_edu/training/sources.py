"""From what was given as `--data` to a set of training clips, and the videos kept for scores."""

import os
from collections.abc import Sequence
from pathlib import Path

from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.data.pasting import KINDS, pasted_set
from tmrn_edu.data.photos import frames_of, textured_set
from tmrn_edu.data.sets import Video, VideoSet, find_sets
from tmrn_edu.data.transforms import static_augmentation, video_augmentation
from tmrn_edu.data.video_clips import SyntheticVideo, VideoClips, synthetic_set
from tmrn_edu.errors import InputError
from tmrn_edu.training.held_out import split_sets
from tmrn_edu.training.settings import CLIPS, STILLS, Recipe

LOOKED_AT = 16  # masks of a set of stills, before training
SYNTHETIC = "synthetic"  # in place of a folder: our own videos, "synthetic:600" so many
TEXTURED = "textured"  # the same with textures cut from the pictures of the folders beside it
USUAL = {SYNTHETIC: 600, TEXTURED: 600, **dict.fromkeys(KINDS, 100)}  # videos, where no count is given
# Frames of such a video, and their size: room for the gaps of the small recipes; few where each is a still of its own. Painting takes time.
SYNTHETIC_LENGTH, STILLS_LENGTH, SYNTHETIC_SIZE = 12, 4, (108, 144)


def make_data(
    recipe: Recipe,
    roots: Sequence[str | os.PathLike] = (),
    subset: str | os.PathLike | None = None,
    progress: bool = False,
) -> tuple[object, dict[str, list[Video]], str]:
    """The clips that a recipe is trained on, the videos held out from them by set, and both in words.

    `roots`: folders in any layout that `data.sets.find_sets` knows, and words for videos that are made, alone or with ":COUNT": "synthetic";
    "textured", the same with textures cut from the folders' pictures; "pasted" and "look-alikes" (`data.pasting`), from the folders' videos.
    The last three see only what is trained on: what is held out is taken away before. Where stills are asked for, pasted videos and look-alikes
    are left out, since each of their frames is nearly one of the folders'. Without any root: the recipe's own synthetic videos. `subset`: a text
    file of names, one a line, of the data sets or videos to take from the folders (the authors leave badly annotated videos of YouTube-VOS
    out); None: all. Every file is looked at once, so that a broken one is named now.
    Raises InputError where the recipe takes no data, or needs some and gets none, and for a word that has no folder to be made from.
    """
    settings = recipe.settings
    if recipe.stage == CLIPS:
        if roots:
            given = ", ".join(map(str, roots))
            raise InputError(
                f"{recipe.name} is trained on its own synthetic clips, data {given} was given; expected none"
            )
        data = SyntheticClips(settings.clips, size=(settings.size, settings.size), seed=0)
        return data, {}, f"{settings.clips} synthetic videos"
    if not roots and not recipe.synthetic:
        raise InputError(
            f"{recipe.name} is trained on {recipe.stage}: expected --data ROOT, a folder of them (docs/training.md says which)"
        )
    names = None if subset is None else _names_in(subset)
    roots = [str(root) for root in roots] or [SYNTHETIC]
    sets = [one for root in roots for one in _open(root, recipe, names, progress)]
    for one in sets:
        _look_for_objects(one)
    rest, held_out = split_sets(sets, settings.held_out, settings.folds, settings.fold)
    real = [one for one in rest if not all(isinstance(video, SyntheticVideo) for video in one.videos)]
    rest += [one for root in roots for one in _make(root, recipe, real)]
    data = clips_of(recipe, rest)
    words = ", ".join(f"{one.name}: {count_of(one)}" for one in rest)
    names = [video.name for videos in held_out.values() for video in videos]
    return data, held_out, words + (f"; held out: {', '.join(names)}" if names else "")


def clips_of(recipe: Recipe, sets: Sequence[VideoSet]) -> VideoClips:
    """Clips of these sets, drawn and augmented as the recipe's stage asks for."""
    settings = recipe.settings
    if recipe.stage == STILLS:
        augmentation, fine = static_augmentation(settings.size, recipe.interpolation), None
    else:
        augmentation = video_augmentation(settings.size, recipe.interpolation)
        fine = video_augmentation(settings.size, recipe.interpolation, fine_tune=True) if settings.fine_tune else None
    return VideoClips(
        sets,
        augmentation,
        fine,
        objects=settings.objects,
        rule=recipe.rule,
        references=settings.references or None,
        stills=recipe.stage == STILLS,
    )


def count_of(one: VideoSet) -> str:
    """ "1 video", "24 videos", "300 stills"."""
    return f"{len(one.videos)} {one.kind}{'s' if one.kind == 'video' and len(one.videos) != 1 else ''}"


def _look_for_objects(one: VideoSet) -> None:
    """Raises InputError for a set of stills in whose masks, of which a few are looked at, nothing is marked."""
    some = one.videos[:: max(1, len(one.videos) // LOOKED_AT)] if one.kind == "stills" else ()
    if some and not any(still.mask(0).any() for still in some):
        raise InputError(
            f"{one.name}: {len(some)} of {len(one.videos)} masks were looked at, no object in any; expected white on black, or labels from 1 on"
        )


def _names_in(path: str | os.PathLike) -> list[str]:
    try:
        names = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the names in {path}: {error}; expected a text file with one a line") from None
    return [name for name in names if name]


def _word(root: str) -> str | None:
    """The word of "word:COUNT", None for a folder."""
    word = root.partition(":")[0]
    return word if word in (SYNTHETIC, TEXTURED, *KINDS) else None


def _count(root: str, usual: int) -> int:
    word, _, count = root.partition(":")
    if count and not (count.isdecimal() and int(count) > 0):
        raise InputError(f"data {root!r} asks for {count!r} {word} videos, expected a number, such as {word}:{usual}")
    return int(count or usual)


def _form(recipe: Recipe) -> dict:
    """Length, size and objects of a synthetic video."""
    length = STILLS_LENGTH if recipe.stage == STILLS else SYNTHETIC_LENGTH
    return {"length": length, "size": SYNTHETIC_SIZE, "objects": recipe.settings.objects}


def _open(root: str, recipe: Recipe, names: list[str] | None, progress: bool) -> list[VideoSet]:
    """The sets of a folder, or our own; nothing for what is made from others (`_make`)."""
    if _word(root) is None:
        return find_sets(root, names, progress=progress)
    own = _word(root) == SYNTHETIC
    return [synthetic_set(_count(root, recipe.synthetic or USUAL[SYNTHETIC]), **_form(recipe))] if own else []


def _make(root: str, recipe: Recipe, real: Sequence[VideoSet]) -> list[VideoSet]:
    """What a word makes from the sets of folders; those that list frames at different steps make sets of their own."""
    word = _word(root)
    if word in (None, SYNTHETIC):
        return []
    count = _count(root, USUAL[word])
    there = ", ".join(f"{one.name} ({count_of(one)})" for one in real) or "no folder"
    if word == TEXTURED:
        if not real:
            raise InputError(f"data {root!r} needs pictures, beside it there is {there}; expected stills or videos")
        return [textured_set(count, frames_of(real), **_form(recipe))]
    videos = [one for one in real if one.kind != "stills"]
    if not videos:
        raise InputError(f"data {root!r} is made from annotated videos, beside it there is {there}; expected videos")
    if recipe.stage == STILLS:
        return []
    total, made = sum(len(one.videos) for one in videos), []
    for step in sorted({one.frame_step for one in videos}):
        alike = [one for one in videos if one.frame_step == step]
        share = round(count * sum(len(one.videos) for one in alike) / total)
        made += [pasted_set(alike, share, kind=word)] if share else []
    return made
