"""Which data sets a folder holds: DAVIS, YouTube-VOS, stills, or a folder of several of these.

DAVIS is looked for as ImageSets + JPEGImages, in `root` itself or below (DAVIS/2017/trainval as STCN and XMem nest it), with
frames in a folder 480p, which copies of other sizes keep by name. Its list is ImageSets/2017/train.txt, else that of
2016. Of the other layouts `youtube_vos` and `stills` say what they look like. The search is ours.
"""

from dataclasses import replace
from pathlib import Path

from tmrn_edu.data.davis import FIRST_MASKS_ONLY, Sequence, list_file, read_list
from tmrn_edu.data.listing import Flaw, Listed, Listing, few, pair_up
from tmrn_edu.data.masks_io import read_mask
from tmrn_edu.data.pictures import JPEG, PNG, pictures_in
from tmrn_edu.data.stills import PUBLISHED, list_flat, list_siblings, merge_classes
from tmrn_edu.data.youtube_vos import NOT_FOR_TRAINING, is_youtube_vos, list_youtube_vos
from tmrn_edu.errors import InputError

DEPTH = 4  # folders below root in which data sets are looked for
MOST_FOLDERS = 20_000  # more are no folder of data sets, but somebody's disk
RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
CLOSED = {"JPEGImages", "Annotations", "ImageSets", "__MACOSX"}  # nothing to look for in these
DAVIS_REPEAT = 5  # visits in an epoch: STCN:train.py, XMem:train.py


def list_sets(root: str | Path, splits: tuple[str, ...] = ("train",), others: bool = False) -> list[Listing]:
    """Every data set below `root`, as listed by its files; no file is opened yet.

    splits: the DAVIS lists that are wanted. others: where a DAVIS folder has none of these, the lists that it has (`other_lists`), which
    training does not read; their `layout` says so. Where both are there, a list of DAVIS 2017 stands for that of DAVIS 2016, whose
    sequences it holds, and train_480p of YouTube-VOS for train. Raises InputError saying what was looked for and what is there.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder, expected one that holds a data set or several")
    if is_davis(root):  # alone, its missing list is the user's mistake, and said
        return _lists_of_davis(root, splits, others) or [list_davis(root, splits[0])]
    found = _walk(root, DEPTH, lambda folder: _lists_of_davis(folder, splits, others), [0])
    if not found:
        names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        raise InputError(
            f"{root} holds no data set that is known: looked {DEPTH} folders deep for DAVIS (ImageSets with a list "
            f"{' or '.join(splits)}, JPEGImages, Annotations), YouTube-VOS (JPEGImages, Annotations), stills (x.jpg with "
            f"x.png, or folders such as images and masks); it holds {few(names)}"
        )
    newer = {one.name.replace("DAVIS 2017", "DAVIS 2016") for one in found if one.name.startswith("DAVIS 2017")}
    return _distinct_names([one for one in found if one.name not in newer])


def is_davis(folder: Path) -> bool:
    """Whether a folder has the layout of DAVIS."""
    return (folder / "ImageSets").is_dir() and (folder / "JPEGImages").is_dir()


def list_davis(root: Path, split: str) -> Listing:
    """The sequences of one DAVIS split, with every frame and mask; what has no partner is a flaw.

    Raises InputError where the list or the folder of frames is missing.
    """
    year = davis_year(root, split) or 2017
    resolution = next((name for name in RESOLUTIONS if (root / "JPEGImages" / name).is_dir()), None)
    if resolution is None:
        there = sorted(path.name for path in (root / "JPEGImages").iterdir())
        wanted = " or ".join(RESOLUTIONS)
        raise InputError(f"{root / 'JPEGImages'} has no folder {wanted}; it has {few(there)}")
    path = list_file(root, year, split, resolution)
    videos, flaws = [], []
    for name, pairs in read_list(path).items():
        if pairs:
            listed, odd = Listed(name, *(tuple(root / pair[side] for pair in pairs) for side in (0, 1))), ()
        else:
            folders = [root / kind / resolution / name for kind in ("JPEGImages", "Annotations")]
            listed, odd = pair_up(name, pictures_in(folders[0], JPEG), pictures_in(folders[1], PNG))
            empty = [folder for folder in folders if not pictures_in(folder)]
            if empty:
                odd = tuple(Flaw(folder, f"has 0 pictures, {path.name} lists it", name) for folder in empty)
        flaws += odd
        if listed.frames:
            videos.append(listed)
    return Listing(
        name=f"DAVIS {year} {split}",
        kind="video",
        layout=f"DAVIS, listed in {path.relative_to(root).as_posix()}, frames in {resolution}",
        root=root,
        videos=tuple(videos),
        open=_open_merged if year == 2016 else _open_davis,
        repeat=DAVIS_REPEAT,
        flaws=tuple(flaws),
    )


def davis_year(root: Path, split: str) -> int | None:
    """2017 or 2016, whichever list of this name is there; None where neither is."""
    if (root / "ImageSets" / "2017" / f"{split}.txt").is_file():
        return 2017
    return (
        2016 if any((root / "ImageSets" / name / f"{split}.txt").is_file() for name in ("2016", *RESOLUTIONS)) else None
    )


def other_lists(root: Path) -> list[str]:
    """Names of the lists of a DAVIS folder, but for those whose masks a server keeps."""
    found = {path.stem for path in root.glob("ImageSets/*/*.txt")} - set(FIRST_MASKS_ONLY)
    return sorted(name for name in found if davis_year(root, name))


def _lists_of_davis(root, splits, others):
    """The wanted lists that are there, or else the other ones."""
    wanted = [list_davis(root, split) for split in splits if davis_year(root, split)]
    if wanted or not others:
        return wanted
    note = "not for training, which reads a list called train; tmrn-edu evaluate takes it as --split"
    own = [(name, list_davis(root, name)) for name in other_lists(root)]
    return [replace(one, layout=f"{one.layout} ({note} {name})", repeat=1) for name, one in own]


def _open_davis(listed, size):
    ids = read_mask(listed.masks[0], empty_ok=True).ids
    return Sequence(listed.name, listed.frames, listed.masks, size, ids)


def _open_merged(listed, size):
    return Sequence(listed.name, listed.frames, listed.masks, size, (1,), merge_objects=True)


def _walk(folder, depth, lists_of_davis, visited):
    """The listings below a folder; `lists_of_davis` gives those of a DAVIS folder."""
    visited[0] += 1
    if visited[0] > MOST_FOLDERS:
        raise InputError(
            f"more than {MOST_FOLDERS:,} folders to look into, last {folder}: name the folder of the data itself"
        )
    if is_davis(folder):
        return lists_of_davis(folder)
    if is_youtube_vos(folder):
        return [list_youtube_vos(folder)]
    flat = list_flat(folder)
    if depth == 0:
        return [flat] if flat else []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    below = [path for path in below if path.name not in CLOSED]
    names = {path.name for path in below}
    siblings = list_siblings(folder, below)
    used = {path for _, *paths in siblings for path in paths}
    if "train_480p" in names:
        used.add(folder / "train")
    found = ([flat] if flat else []) + [listing for listing, *_ in siblings]
    deeper = []
    for path in below:
        if path in used or (path.name.startswith(NOT_FOR_TRAINING) and is_youtube_vos(path)):
            continue
        deeper += _walk(path, depth - 1, lists_of_davis, visited)
    # Folders of pairs, side by side, that are not data sets known by name: classes of one.
    classes = [one for one in deeper if one.kind == "stills" and one.root.parent == folder]
    if len(classes) == len(deeper) > 1 and not found and not any(PUBLISHED.match(one.name) for one in classes):
        return [merge_classes(folder, classes)]
    return found + deeper


def _distinct_names(listings):
    """The listings; where two have one name, that of their folder is added."""
    names = [one.name for one in listings]
    return [replace(one, name=f"{one.name} in {one.root}") if names.count(one.name) > 1 else one for one in listings]
