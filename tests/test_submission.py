"""Submissions: what the servers take goes through, and every rule is broken once."""

import io
import re
import zipfile

import numpy as np
import pytest
from davis_tree import write_test_dev
from PIL import Image
from valid_tree import truth, write_valid

from tmrn_edu.data.video import write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.splits import required
from tmrn_edu.submission import check, unpack, write_zip


@pytest.fixture
def davis(tmp_path):
    """What DAVIS wants of `pair` (6 frames, objects 1 and 2), and a folder that has it."""
    return required("davis2017", write_test_dev(tmp_path / "DAVIS"), "test-dev"), write_pair(tmp_path / "davis")


@pytest.fixture
def youtube(tmp_path):
    """What YouTube-VOS wants, and a folder that has it."""
    wanted = required("youtubevos2019", write_valid(tmp_path / "YouTube"))
    for name in ("0a0a", "0b0b"):
        numbers = (0, 5, 10) if name == "0a0a" else (5, 10)
        for t, mask in zip(numbers, truth(name), strict=True):
            write_mask(tmp_path / "youtube" / name / f"{t:05}.png", mask)
    return wanted, tmp_path / "youtube"


def write_pair(folder):
    for t in range(6):
        mask = np.zeros((20, 26), dtype=np.uint8)
        mask[2:8, t : t + 6] = 1 + t % 2
        write_mask(folder / "pair" / f"{t:05}.png", mask)
    return folder


def refuses(message, source, wanted):
    with pytest.raises(InputError, match=re.escape(message)):
        check(source, wanted)


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return path


def png(values, mode="P"):
    buffer = io.BytesIO()
    Image.fromarray(values).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


# --- what goes through ---


def test_davis(davis, tmp_path):
    wanted, folder = davis
    (folder / "run.json").write_text("{}")
    (folder / ".DS_Store").write_text("x")
    check(folder, wanted)
    path = tmp_path / "new" / "dev.zip"
    write_zip(folder, wanted, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"pair/{t:05}.png" for t in range(6)]
    check(path, wanted)
    write_zip(folder, wanted, tmp_path / "again.zip")
    assert path.read_bytes() == (tmp_path / "again.zip").read_bytes()
    assert list(path.parent.iterdir()) == [path]  # no temporary file left


def test_youtube(youtube, tmp_path):
    wanted, folder = youtube
    write_zip(folder, wanted, tmp_path / "yv.zip")
    with zipfile.ZipFile(tmp_path / "yv.zip") as archive:
        names = archive.namelist()
    assert names == [f"Annotations/0a0a/{t:05}.png" for t in (0, 5, 10)] + [
        f"Annotations/0b0b/{t:05}.png" for t in (5, 10)
    ]
    back = unpack(tmp_path / "yv.zip", wanted, tmp_path / "back")
    files = sorted(path.relative_to(back) for path in back.rglob("*.png"))
    assert len(files) == 5 and all((back / file).read_bytes() == (folder / file).read_bytes() for file in files)


def test_folders_may_be_listed_in_a_zip(davis, tmp_path):
    wanted, folder = davis
    files = [("pair/", "")] + [(f"pair/{t:05}.png", (folder / f"pair/{t:05}.png").read_bytes()) for t in range(6)]
    check(make_zip(tmp_path / "a.zip", files), wanted)


# --- every rule broken once ---


def test_missing_masks(davis):
    wanted, folder = davis
    (folder / "pair/00002.png").unlink()
    refuses(
        f"{folder} is no submission, 1 thing is wrong; the first: pair/00002.png is missing, 6 masks are",
        folder,
        wanted,
    )
    (folder / "pair/00004.png").unlink()
    refuses("2 things are wrong; the first: pair/00002.png is missing", folder, wanted)


def test_files_that_nobody_asked_for(davis, youtube):
    for wanted, folder, name in ((*davis, "pair/00006.png"), (*youtube, "0b0b/00000.png")):
        shown = f"{wanted.folder}/{name}".lstrip("/")
        write_mask(folder / name, np.zeros((20, 26), dtype=np.uint8))
        refuses(f"the first: {shown} is there, and not asked for", folder, wanted)
        (folder / name).unlink()


def test_folders_too_many_or_too_few(davis, youtube, tmp_path):
    (wanted, folder), (other, videos) = davis, youtube
    files = [(f"mine/pair/{t:05}.png", (folder / f"pair/{t:05}.png").read_bytes()) for t in range(6)]
    message = "12 things are wrong; the first: mine/pair/00000.png is there, and not asked for; pair/00000.png is: take the folder mine out"
    refuses(message, make_zip(tmp_path / "a.zip", files), wanted)
    bare = [(str(path.relative_to(videos)), path.read_bytes()) for path in sorted(videos.rglob("*.png"))]
    message = "Annotations/0a0a/00000.png is: the videos' folders belong into a folder Annotations"
    refuses(message, make_zip(tmp_path / "b.zip", [one for one in bare if one[0].startswith("0")]), other)


def test_a_mask_twice(davis, tmp_path):
    wanted, folder = davis
    files = [(f"pair/{t:05}.png", (folder / f"pair/{t:05}.png").read_bytes()) for t in range(6)]
    with pytest.warns(UserWarning, match="Duplicate"):
        path = make_zip(tmp_path / "a.zip", [*files, files[1]])
    refuses("pair/00001.png is there 2 times, expected once", path, wanted)


@pytest.mark.parametrize(
    "content, message",
    [
        (png(np.zeros((20, 26), dtype=np.uint8), "L"), "is a PNG of mode L, expected a PNG with palette"),
        (png(np.zeros((20, 26, 3), dtype=np.uint8), "RGB"), "is a PNG of mode RGB, expected a PNG with palette"),
        (b"no picture", "cannot be read (cannot identify image file"),
        (png(np.zeros((26, 20), dtype=np.uint8)), "is 26 x 20, the frame is 20 x 26 (height x width)"),
    ],
)
def test_files_that_are_no_masks(davis, content, message):
    wanted, folder = davis
    (folder / "pair/00003.png").write_bytes(content)
    refuses(f"pair/00003.png {message}", folder, wanted)


def test_gif_under_a_false_name(davis):
    wanted, folder = davis
    Image.new("P", (26, 20)).save(folder / "pair/00003.png", "GIF")
    refuses("pair/00003.png is a GIF of mode P", folder, wanted)


def test_ids(davis, youtube):
    wanted, folder = davis
    write_mask(folder / "pair/00005.png", np.full((20, 26), 3, dtype=np.uint8))
    refuses("pair/00005.png has the ids [3], in this frame there may be [1, 2]", folder, wanted)
    wanted, folder = youtube
    write_mask(folder / "0a0a/00000.png", np.full((20, 30), 4, dtype=np.uint8))  # it enters in frame 5
    refuses("Annotations/0a0a/00000.png has the ids [4], in this frame there may be [1]", folder, wanted)


def test_a_damaged_zip(davis, tmp_path):
    wanted, folder = davis
    write_zip(folder, wanted, tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[120:124] = b"oops"  # in the pixels of the first mask
    (tmp_path / "b.zip").write_bytes(content)
    refuses("pair/00000.png cannot be read (Bad CRC-32", tmp_path / "b.zip", wanted)
    (tmp_path / "c.zip").write_text("no zip")
    refuses("c.zip is neither a folder nor a zip: File is not a zip file", tmp_path / "c.zip", wanted)
    refuses("nowhere.zip is neither a folder nor a zip: No such file", tmp_path / "nowhere.zip", wanted)


@pytest.mark.parametrize(
    "offset, value, message", [(8, 1, "is encrypted, password required"), (10, 99, "compression method is not supp")]
)
def test_a_zip_that_cannot_be_opened(davis, tmp_path, offset, value, message):
    """The flag of a password, and a compression nobody knows, set in the zip's list of files."""
    wanted, folder = davis
    write_zip(folder, wanted, tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    for entry in re.finditer(b"PK\x01\x02", bytes(content)):
        content[entry.start() + offset] = value
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=f"6 things are wrong; the first: pair/00000.png cannot be read .*{message}"):
        check(tmp_path / "a.zip", wanted)


def test_a_zip_gets_its_name_when_it_is_right(davis, tmp_path):
    wanted, folder = davis
    (folder / "pair/00002.png").unlink()
    path = tmp_path / "out" / "dev.zip"
    with pytest.raises(InputError, match=re.escape(f"{path} is no submission, 1 thing")):
        write_zip(folder, wanted, path)
    assert list(path.parent.iterdir()) == []
    with pytest.raises(InputError, match=r"dev.tar ends in '.tar', expected a file's name that ends in .zip"):
        write_zip(folder, wanted, path.with_suffix(".tar"))
    path.mkdir()
    with pytest.raises(InputError, match="dev.zip is a folder, expected"):
        write_zip(folder, wanted, path)
