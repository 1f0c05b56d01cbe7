"""Videos and masks in and out of files: round trips, streams, and one clear line for each kind of bad input."""

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tmrn_edu.data import video_writer
from tmrn_edu.data.files import atomic_path, natural_key
from tmrn_edu.data.video import (
    VideoWriter,
    davis_palette,
    open_video,
    read_mask,
    read_video,
    write_mask,
    write_video,
)  # fmt: skip
from tmrn_edu.errors import InputError

H, W = 35, 51  # odd, and not equal
SHARED = Path(__file__).resolve().parents[2] / "shared"


def has_av():
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


needs_av = pytest.mark.skipif(not has_av(), reason="PyAV is not installed (the extra 'video')")


def frames_of(count, height=H, width=W):
    """Smooth frames that all differ, so that lossy coding keeps them apart."""
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    red, green, blue = (20 + 8 * t) % 256, 3 * y + 40 + 0 * t, 2 * x + 30 + 0 * t
    return torch.from_numpy(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def noise_frames(count, height=H, width=W):
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.manual_seed(0))


def save_folder(folder, frames, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, frames):
        Image.fromarray(frame.numpy()).save(folder / name)
    return folder


def only_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


# ---- folders of images


def test_folder_is_sorted_by_number_and_keeps_names(tmp_path):
    frames = frames_of(3)
    folder = save_folder(tmp_path / "clip", frames, ["f1.png", "f2.PNG", "f10.png"])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._f1.png").write_text("what some systems leave behind")
    video = read_video(folder)
    assert video.names == ["f1", "f2", "f10"] and video.fps == 24.0
    assert torch.equal(video.frames, frames)


def test_natural_key_compares_any_names():
    names = ["b", "10", "a2", "a10", "2", "a", "A1", "1a", ""]
    assert sorted(names, key=natural_key) == ["", "1a", "2", "10", "a", "A1", "a2", "a10", "b"]


def test_folder_is_streamed_and_can_be_read_twice(tmp_path):
    frames = frames_of(4)
    folder = save_folder(tmp_path, frames, [f"{i}.png" for i in range(4)])
    with open_video(folder) as video:
        assert len(video) == 4 and video.size == (H, W)
        stream = iter(video)
        assert torch.equal(next(stream), frames[0])
        assert torch.equal(torch.stack(list(video)), frames)


def test_images_of_all_kinds_become_rgb(tmp_path):
    grey16 = np.full((H, W), 40000, dtype=np.uint16)
    Image.fromarray(grey16).save(tmp_path / "0.png")
    Image.fromarray(np.full((H, W), 77, dtype=np.uint8)).save(tmp_path / "1.png")
    half = np.zeros((H, W, 4), dtype=np.uint8)
    half[:, :9] = (200, 100, 50, 255)
    half[:, 9:] = (200, 100, 50, 0)
    Image.fromarray(half).save(tmp_path / "2.png")
    write_mask(tmp_path / "3.png", torch.ones(H, W, dtype=torch.uint8))
    Image.fromarray(np.ones((H, W), dtype=bool)).save(tmp_path / "4.png")
    frames = read_video(tmp_path).frames
    assert (frames[0] == round(40000 / 257)).all()
    assert (frames[1] == 77).all()
    assert frames[2, 0, 0].tolist() == [200, 100, 50] and frames[2, 0, 9].tolist() == [0, 0, 0]
    assert frames[3, 0, 0].tolist() == [128, 0, 0]
    assert (frames[4] == 255).all()


def test_exif_orientation_turns_the_frame(tmp_path):
    frame = frames_of(1)[0].numpy()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show
    for suffix in ("png", "jpg"):
        folder = tmp_path / suffix
        folder.mkdir()
        Image.fromarray(frame).save(folder / f"0.{suffix}", exif=exif, quality=95)
        video = open_video(folder)
        assert video.size == (W, H)
        (turned,) = video
        assert np.abs(turned.numpy().astype(int) - np.rot90(frame, -1)).max() < 30


def test_folder_refusals(tmp_path):
    def refuse(path, *words):
        with pytest.raises(InputError) as error:
            read_video(path)
        for word in words:
            assert word in only_line(error)

    refuse(tmp_path / "nowhere", "no video at", "nowhere", "expected a video file or a folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(empty, "is empty", "expected a folder of JPEG or PNG")
    (empty / "notes.txt").write_text("x")
    refuse(empty, "none JPEG or PNG", "notes.txt")
    mixed = save_folder(tmp_path / "mixed", frames_of(2), ["0.png", "1.png"])
    Image.new("RGB", (W + 2, H)).save(mixed / "2.png")
    refuse(mixed, "2.png", f"{H} x {W + 2}", f"{H} x {W}", "0.png")
    twice = save_folder(tmp_path / "twice", frames_of(2), ["0.png", "0.jpg"])
    refuse(twice, "0.jpg", "0.png", "same name")
    refuse(twice / "0.png", "one image")
    cut = save_folder(tmp_path / "cut", noise_frames(3), ["0.png", "1.png", "2.png"])
    (cut / "1.png").write_bytes((cut / "1.png").read_bytes()[:2000])
    refuse(cut, "cannot read image", "1.png", "expected a JPEG or PNG frame")
    (cut / "1.png").write_text("no image at all")
    refuse(cut, "cannot read image", "1.png")


def test_a_stray_mask_among_frames_is_refused(tmp_path):
    folder = save_folder(tmp_path / "clip", frames_of(4), ["f1.png", "f2.png", "f10.png", "mask.png"])
    with pytest.raises(InputError, match="holds 3 images with numbers in their names and mask.png without"):
        open_video(folder)
    (folder / "mask.png").rename(folder / "f11.png")
    assert len(open_video(folder)) == 4
    save_folder(tmp_path / "words", frames_of(2), ["start.png", "end2.png"])
    assert len(open_video(tmp_path / "words")) == 2  # too few to say what is odd


# ---- GIF


def test_gif_round_trip(tmp_path):
    frames = frames_of(5)
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=80)
    with open_video(tmp_path / "a.gif") as video:
        assert (video.size, len(video), video.names[4]) == ((H, W), 5, "00004")
        assert video.fps == pytest.approx(12.5)
        read = torch.stack(list(video))
    assert (read.int() - frames.int()).abs().float().mean() < 8  # 256 colours only


def test_gif_refusals(tmp_path):
    images = [Image.fromarray(frame.numpy()) for frame in noise_frames(6)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=80)
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(InputError, match=r"cut\.gif"):
        read_video(tmp_path / "cut.gif")
    (tmp_path / "text.gif").write_text("hello")
    with pytest.raises(InputError, match="expected a GIF"):
        read_video(tmp_path / "text.gif")


# ---- video files


@needs_av
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_video_round_trip_pads_odd_sizes(tmp_path, suffix):
    frames = frames_of(12)
    path = tmp_path / "new" / f"take:1 %d.{suffix}"  # a name FFmpeg could misread
    write_video(path, frames, fps=12.5)
    with open_video(path) as video:
        assert video.size == (H + 1, W + 1) and len(video) == 12
        assert video.fps == pytest.approx(12.5, abs=0.05)
        assert video.names[11] == "00011"
        read = torch.stack(list(video))
    inside = (read[:, :H, :W].int() - frames.int()).abs().float()
    assert inside.mean() < 4  # chroma is stored at half size, hence not exact
    edge = (read[:, H, :W].int() - frames[:, H - 1].int()).abs().float()
    assert edge.mean() < 8  # the added row repeats the last one
    assert torch.equal(read, read_video(path).frames)


@needs_av
def test_colours_survive(tmp_path):
    colours = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]], dtype=torch.uint8)
    frames = torch.zeros(4, 720, 38, 3, dtype=torch.uint8) + colours[:, None, None]
    write_video(tmp_path / "hd.mp4", frames)
    read = read_video(tmp_path / "hd.mp4").frames
    assert (read.int() - frames.int()).abs().max() <= 4  # another colour matrix would be off by 20 and more


@needs_av
@pytest.mark.parametrize("matrix, turns", [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)])
def test_phone_rotation_is_applied(tmp_path, matrix, turns):
    frames = frames_of(4, 36, 52)
    path = tmp_path / "phone.mp4"
    write_video(path, frames)
    upright = read_video(path).frames
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    # The display matrix stands 44 bytes behind the type of the track header (ISO 14496-12, 8.3.2).
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    video = read_video(path)
    expected = np.rot90(upright.numpy(), turns, axes=(1, 2))
    assert np.array_equal(video.frames.numpy(), expected)
    assert open_video(path).size == expected.shape[1:3]


@needs_av
def test_not_a_video(tmp_path):
    def refuse(name, *words):
        with pytest.raises(InputError) as error:
            open_video(tmp_path / name)
        for word in (name, *words):
            assert word in only_line(error)

    (tmp_path / "a.mp4").write_text("hello world\n" * 50)
    refuse("a.mp4", "cannot read", "expected a video file")
    (tmp_path / "b.txt").write_text("hello world\n" * 50)
    refuse("b.txt", "expected a video file")
    (tmp_path / "c.mp4").write_bytes(b"")
    refuse("c.mp4", "empty file")
    Image.new("RGB", (W, H)).save(tmp_path / "d.png")
    os.replace(tmp_path / "d.png", tmp_path / "d.mp4")
    refuse("d.mp4", "no video")

    import av

    with av.open(str(tmp_path / "e.mka"), "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    refuse("e.mka", "no video stream", "audio")


@needs_av
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_cut_off_video_is_refused_at_once(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    write_video(path, noise_frames(60), fps=25)
    data = path.read_bytes()
    if suffix == "mp4":  # the index stands at the end: bring it to the front, as cameras and web tools do
        data = faststart(data)
        path.write_bytes(data)
        assert len(read_video(path).frames) == 60
    path.write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(InputError, match=r"v\.\w+ is cut off: it holds \d\d of 60 frames"):
        open_video(path)


@needs_av
def test_cut_off_mp4_without_index_is_no_video(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, noise_frames(20))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="cannot read .*v.mp4 as a video"):
        open_video(path)


@needs_av
def test_video_that_stops_decoding_midway(tmp_path):
    path = tmp_path / "v.mp4"
    write_video(path, noise_frames(60))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 9000] = bytes(9000)
    path.write_bytes(data)
    decoded = 0
    with pytest.raises(InputError, match=r"stops decoding after (\d+) of 60 frames") as error:
        for _ in open_video(path):
            decoded += 1
    assert 0 < decoded < 60 and f"after {decoded} of 60" in str(error.value)


def faststart(data):
    """Move the index (moov) of an mp4 before its frames (mdat), and shift the offsets in it."""
    atoms, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        atoms[kind] = data[at : at + size]
        at += size
    moov = bytearray(atoms[b"moov"])
    at = moov.index(b"stco")
    (entries,) = struct.unpack(">I", moov[at + 8 : at + 12])
    for i in range(entries):
        here = slice(at + 12 + 4 * i, at + 16 + 4 * i)
        moov[here] = struct.pack(">I", struct.unpack(">I", moov[here])[0] + len(moov))
    atoms[b"mdat"] = bytes(moov) + atoms[b"mdat"]
    return b"".join(atom for kind, atom in atoms.items() if kind != b"moov")


def test_missing_av_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").write_text("x")
    for call in (lambda: open_video(tmp_path / "a.mp4"), lambda: VideoWriter(tmp_path / "b.mp4")):
        with pytest.raises(InputError, match=r"pip install tmrn-edu\[video\]"):
            call()
    assert os.listdir(tmp_path) == ["a.mp4"]


# ---- writing safely


@needs_av
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_writer_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "v.mp4"
    path.write_text("older")
    with pytest.raises(error):
        with VideoWriter(path) as writer:
            for frame in noise_frames(3):
                writer.write(frame)
            assert len(os.listdir(tmp_path)) == 2
            raise error
    assert os.listdir(tmp_path) == ["v.mp4"] and path.read_text() == "older"


@needs_av
def test_writer_refusals(tmp_path):
    with pytest.raises(InputError, match="ends in '.txt', expected one of .mp4"):
        VideoWriter(tmp_path / "v.txt")
    with pytest.raises(InputError, match="frames per second are 0"):
        VideoWriter(tmp_path / "v.mp4", fps=0)
    with pytest.raises(InputError, match="no frame was written"):
        write_video(tmp_path / "v.mp4", [])
    with pytest.raises(ValueError, match="frame 1 is 35 x 50, the video is 35 x 51"):
        with VideoWriter(tmp_path / "v.mp4") as writer:
            writer.write(frames_of(1)[0])
            writer.write(frames_of(1)[0][:, :-1])
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write"):
        VideoWriter(tmp_path / "file" / "v.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        VideoWriter(tmp_path / "folder.mp4")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


@pytest.fixture
def full_disk():
    """Files may not grow beyond 12 kB: for a program, nothing tells this from a disk that is full."""
    resource = pytest.importorskip("resource")
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@needs_av
@pytest.mark.parametrize("count", [6, 120])  # the frames run out before the encoder gives some, and after
def test_full_disk_leaves_no_video(tmp_path, full_disk, count):
    with pytest.raises(InputError, match="cannot write .*v.mp4: File too large"):
        write_video(tmp_path / "v.mp4", noise_frames(count, 70, 102))
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_no_mask(tmp_path, full_disk):
    noise = torch.randint(0, 250, (250, 300), dtype=torch.uint8)
    with pytest.raises(InputError, match="cannot write .*m.png: File too large"):
        write_mask(tmp_path / "m.png", noise)
    assert os.listdir(tmp_path) == []


def test_atomic_path(tmp_path):
    with atomic_path(tmp_path / "deep" / "er" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "er" / "a.txt").exists()
    assert os.listdir(tmp_path / "deep" / "er") == ["a.txt"]
    with pytest.raises(KeyboardInterrupt):
        with atomic_path(tmp_path / "b.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["deep"]


# ---- masks


def some_mask(ids=(1, 3, 7)):
    index = torch.zeros(H, W, dtype=torch.uint8)
    for k, number in enumerate(ids):
        index[4 + 2 * k : 9 + 3 * k, 5 * k : 5 * k + 11] = number
    return index


@pytest.mark.parametrize("ids", [(1,), (1, 3, 7), (2, 254), (1, 255)])
@pytest.mark.parametrize("colours", [None, 2, 4, 256])
def test_mask_round_trip_keeps_ids_and_palette(tmp_path, ids, colours):
    palette = None if colours is None else bytes(np.random.default_rng(5).integers(0, 256, 3 * colours, dtype=np.uint8))
    index = some_mask(ids)
    write_mask(tmp_path / "m.png", index, palette)
    mask = read_mask(tmp_path / "m.png")
    assert torch.equal(mask.index, index) and mask.ids == tuple(number for number in ids if number != 255)
    expected = davis_palette() if palette is None else palette
    assert mask.palette[: len(expected)] == expected
    if colours is None or max(ids) < colours:
        assert mask.palette == expected
    write_mask(tmp_path / "again.png", mask.index, mask.palette)
    assert (tmp_path / "m.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_davis_palette_is_the_known_one():
    first = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128, 64, 0, 0]
    assert list(davis_palette()[:27]) == first and len(davis_palette()) == 768
    assert list(davis_palette()[-3:]) == [224, 224, 192]


def test_write_mask_takes_any_integers(tmp_path):
    for index in (some_mask().long(), some_mask().numpy().astype(np.int32), torch.eye(6, 5, dtype=torch.int16)):
        write_mask(tmp_path / "m.png", index)
        assert torch.equal(read_mask(tmp_path / "m.png").index.long(), torch.as_tensor(index).long())


def test_write_mask_refusals(tmp_path):
    with pytest.raises(ValueError, match="from 0 to 256, expected 0 to 255"):
        write_mask(tmp_path / "m.png", some_mask((1,)).int() * 256)
    with pytest.raises(ValueError, match="got 4 bytes"):
        write_mask(tmp_path / "m.png", some_mask(), b"1234")
    with pytest.raises(InputError, match="ends in '.jpg', expected .png"):
        write_mask(tmp_path / "m.jpg", some_mask())
    assert os.listdir(tmp_path) == []


def save_grey(path, values, **options):
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path, **options)
    return path


def test_drawn_masks_are_one_object(tmp_path):
    drawn = some_mask((1,)).numpy()
    save_grey(tmp_path / "l.png", drawn * 255)
    Image.fromarray(drawn.astype(bool)).save(tmp_path / "1.png")
    for name in ("l.png", "1.png"):
        mask = read_mask(tmp_path / name)
        assert np.array_equal(mask.index.numpy(), drawn)
        assert mask.ids == (1,) and mask.palette is None


@pytest.mark.parametrize("ids", [(1, 2), (2, 5, 255), (1, 255), (38, 75, 113), tuple(range(1, 8))])
def test_grey_index_masks(tmp_path, ids):
    index = some_mask(ids)
    mask = read_mask(save_grey(tmp_path / "m.png", index))
    assert torch.equal(mask.index, index)
    assert mask.ids == tuple(number for number in ids if number != 255)


def test_254_objects_and_low_bit_grey(tmp_path):
    every = np.arange(35 * 51, dtype=np.int64).reshape(35, 51) % 255
    assert len(read_mask(save_grey(tmp_path / "all.png", every)).ids) == 254

    # A 4-bit grey PNG by hand, as Pillow writes none: two rows 0 1 2 0.
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 2, 4, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00\x01\x20" * 2)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "four.png").write_bytes(data)
    assert read_mask(tmp_path / "four.png").index.tolist() == [[0, 1, 2, 0]] * 2


def test_mask_refusals(tmp_path):
    def refuse(name, *words):
        with pytest.raises(InputError) as error:
            read_mask(tmp_path / name)
        for word in (name, "expected", *words):
            assert word in only_line(error)

    index = some_mask((1,)).numpy()
    refuse("nowhere.png", "no mask at")
    (tmp_path / "folder.png").mkdir()
    refuse("folder.png", "is a folder")
    (tmp_path / "text.png").write_text("hello")
    refuse("text.png", "cannot read mask")
    save_grey(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 3, (H, W)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    refuse("cut.png", "cannot read mask")

    write_mask(tmp_path / "p.png", some_mask((1, 2)))
    Image.open(tmp_path / "p.png").convert("RGB").save(tmp_path / "rgb.png")
    refuse("rgb.png", "RGB with 3 colours", "palette PNG")
    Image.open(tmp_path / "p.png").convert("RGBA").save(tmp_path / "rgba.png")
    refuse("rgba.png", "RGBA with 3 colours")
    Image.fromarray(noise_frames(1)[0].numpy()).save(tmp_path / "photo.png")
    refuse("photo.png", "photo or has anti-aliased edges", "colours")
    soft = Image.fromarray(index * 255).resize((2 * W, 2 * H), Image.BILINEAR)
    soft.save(tmp_path / "soft.png")
    refuse("soft.png", "labels", "looks anti-aliased")
    save_grey(tmp_path / "supersampled.png", index * 128 + np.roll(index, 1) * 127)
    refuse("supersampled.png", "4 labels (0, 127, 128, 255)", "looks anti-aliased")
    soft.save(tmp_path / "soft.jpg")
    refuse("soft.jpg", "is a JPEG", "values found")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 100, (H, W), dtype=np.uint8) * 2)
    picture.putpalette(davis_palette())
    picture.save(tmp_path / "quantised.png")
    refuse("quantised.png", "palette labels with gaps")
    Image.fromarray(index.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    refuse("deep.png", "16-bit with labels 0, 300")
    Image.fromarray(np.arange(H * W, dtype=np.uint16).reshape(H, W)).save(tmp_path / "many.png")
    refuse("many.png", f"{H * W - 1} objects where 254 are possible")
    save_grey(tmp_path / "none.png", 0 * index)
    refuse("none.png", "holds no object", "its labels are 0")
    write_mask(tmp_path / "void.png", torch.from_numpy(index) * 255)
    refuse("void.png", "holds no object", "255 is void in a palette mask")
    assert read_mask(tmp_path / "none.png", empty_ok=True).ids == ()


def test_black_and_one_colour_is_one_object(tmp_path):
    """What a paint program saves: red on black, white on nothing; which of two colours is background is not guessed."""
    drawn = some_mask((1,)).numpy()
    black, red, white = np.zeros((H, W, 3), np.uint8), np.array([200, 0, 0], np.uint8), np.uint8(255)
    layers = np.concatenate([black + white, drawn[..., None] * white], axis=-1)
    pictures = {
        "red.png": drawn[..., None] * red,
        "opaque.png": np.concatenate([drawn[..., None] * red, black[..., :1] + white], axis=-1),
        "nothing.png": layers,
        "grey.png": layers[..., 2:],  # grey and alpha
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(tmp_path / name)
        mask = read_mask(tmp_path / name)
        assert np.array_equal(mask.index.numpy(), drawn) and mask.ids == (1,) and mask.palette is None
    refused = {
        "two.png": (np.where(drawn[..., None] > 0, red, np.array([0, 0, 9], np.uint8)), "RGB with 2 colours"),
        "soft.png": (layers // 2, "RGBA with 2 colours"),
        "ink.png": (layers * np.array([0, 0, 0, 1], np.uint8), "RGBA with 2 colours"),
        "full.png": (black + red, "RGB with 1 colours"),
    }
    for name, (picture, message) in refused.items():
        Image.fromarray(picture).save(tmp_path / name)
        with pytest.raises(InputError, match=f"{name} is {message} .*black and one colour would be one object"):
            read_mask(tmp_path / name)
    Image.fromarray(black).save(tmp_path / "black.png")
    assert read_mask(tmp_path / "black.png", empty_ok=True).ids == ()


def test_real_masks_round_trip(tmp_path):
    folder = SHARED / "davis-mini" / "Annotations" / "480p" / "dogs-jump"
    if not folder.is_dir():
        pytest.skip("needs the folder shared/davis-mini beside the repository")
    mask = read_mask(folder / "00000.png")
    assert mask.ids == (1, 2, 3)
    write_mask(tmp_path / "m.png", mask.index, mask.palette)
    again = read_mask(tmp_path / "m.png")
    assert torch.equal(again.index, mask.index) and again.palette == mask.palette


def test_import_needs_no_av():
    assert "av" not in vars(video_writer)
