"""Drawing on a frame: the mask follows the polygons, in Python and in a browser; the picture without a kernel; refusals."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from tmrn_edu.data.polygons import paint_polygons
from tmrn_edu.errors import InputError
from tmrn_edu.viz.drawing import Drawing, drawing_html

H, W = 40, 56
POLYGONS = {
    3: [[(5, 4), (30, 6), (17, 33)], [(12, 8), (22, 9), (17, 20)]],  # the second is a hole
    1: [[(20, 10), (50, 10), (50, 30), (20, 30)]],
    0: [[(40, 20), (56, 20), (56, 40)]],
}


@pytest.fixture(scope="module")
def frame():
    return torch.randint(0, 256, (H, W, 3), dtype=torch.uint8, generator=torch.manual_seed(0))


@pytest.fixture(scope="module")
def below():
    mask = torch.zeros(H, W, dtype=torch.uint8)
    mask[30:38, 2:20] = 7
    mask[25:38, 44:54] = 255
    return mask


def test_mask_follows_the_polygons(frame, below):
    view = Drawing(frame, index=12)
    assert view.size == (H, W) and not view.mask.any()
    assert repr(view) == "Drawing(frame 12, 40 x 56: nothing yet)"
    view.polygons = POLYGONS
    assert torch.equal(view.mask, paint_polygons(POLYGONS, (H, W)))
    assert list(view.polygons) == [0, 1, 3] and len(view.polygons[3]) == 2
    over = Drawing(frame, POLYGONS, mask=below)
    assert torch.equal(over.mask, paint_polygons(POLYGONS, (H, W), below)) and 7 in over.mask
    counts = [int((over.mask == name).sum()) for name in (1, 3, 7)]
    assert repr(over) == "Drawing(frame 0, 40 x 56: object 1 {} pixels, object 3 {} pixels, object 7 {} pixels)".format(
        *counts
    )


def test_what_the_browser_sends_is_what_python_has(frame):
    view = Drawing(frame)
    view.set_state({"polygons": [[2, [[1, 1], [9, 1], [9, 9]]], [2, [[20, 1], [29, 1], [29, 9]]]], "object": 2})
    assert view.polygons == {2: [[(1, 1), (9, 1), (9, 9)], [(20, 1), (29, 1), (29, 9)]]} and view.object == 2
    view.polygons = POLYGONS
    sent = view.get_state()
    assert sent["polygons"][0] == [0, [[40, 20], [56, 20], [56, 40]]] and [name for name, _ in sent["polygons"]] == [
        0,
        1,
        3,
        3,
    ]
    json.dumps({key: value for key, value in sent.items() if key != "base"})


def test_what_is_packed(frame, below):
    view = Drawing(frame, mask=below.long())
    assert zlib.decompress(view.base) == below.numpy().tobytes() and Drawing(frame).base == b""
    assert view.about["size"] == [H, W] and view.about["colours"][0] == [230, 159, 0]
    large = Drawing(torch.zeros(900, 1600, 3, dtype=torch.uint8))
    picture = Image.open(io.BytesIO(base64.b64decode(large.about["picture"].split(",")[1])))
    assert picture.size == (1280, 720) and large.mask.shape == (900, 1600)


def test_frames_of_both_kinds(frame):
    from einops import rearrange

    floats = Drawing(rearrange(frame, "H W c -> c H W") / 255)
    assert floats.about == Drawing(frame).about


def test_there_is_a_picture_for_readers_without_a_kernel(frame):
    data, _ = Drawing(frame, POLYGONS)._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    picture = np.array(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")).astype(int)
    assert picture.shape == (H, W, 3)
    assert np.abs(picture - frame.numpy())[36:, :30].mean() < 20  # nothing drawn there; 256 colours
    assert np.abs(picture[10, 35] - (230, 159, 0)).max() < 40  # on the rim of object 1


def test_refusals(frame, below):
    with pytest.raises(InputError, match=r"mask of frame 4 has shape \(20, 56\), its frame has \(40, 56\)"):
        Drawing(frame, mask=below[:20], index=4)
    with pytest.raises(InputError, match="is torch.float32 .* expected integer labels"):
        Drawing(frame, mask=below.float())
    with pytest.raises(InputError, match="expected uint8 H W 3"):
        Drawing(frame[..., :2])
    view = Drawing(frame, POLYGONS)
    with pytest.raises(InputError, match="x = 57, y = 4, the frame is 40 x 56"):
        view.polygons = {1: [[(57, 4), (3, 3), (9, 3)]]}
    with pytest.raises(InputError, match="object 255 was chosen, expected 1 to 254"):
        view.object = 255
    assert list(view.polygons) == [0, 1, 3] and view.object == 1


def test_html_holds_all_it_needs(frame, below):
    page = drawing_html(frame, POLYGONS, below, object=3, index=5)
    assert (
        page.startswith("<div ")
        and page.rstrip().endswith("</div>")
        and page == drawing_html(frame, POLYGONS, below, 3, 5)
    )
    assert "http" not in page and page.count("<script") == 1 and "import(" not in page and "fetch(" not in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")


def shown(page, tmp_path, act=""):
    """What a browser makes of a page: its `data-` attributes, after `act` ran on the canvas."""
    file = tmp_path / "page.html"
    # As in test_explorer.py: something has to take real time until pictures are decoded.
    wait = f"""
        const i = setInterval(() => {{
            for (let n = 0; n < 5e6; n++) Math.sqrt(n);
            const root = document.querySelector("[data-polygons]");
            if (!root) return;
            clearInterval(i);
            const canvas = root.querySelector("canvas"), place = () => canvas.getBoundingClientRect();
            const key = (name, more) => canvas.dispatchEvent(new KeyboardEvent("keydown", {{ key: name, ...more }}));
            const at = (x, y) => ({{ clientX: place().left + (x + 0.5) / {W} * place().width, pointerId: 1, buttons: 1,
                                     clientY: place().top + (y + 0.5) / {H} * place().height }});
            const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, at(x, y)));
            const click = (x, y) => {{ send("pointerdown", x, y); send("pointerup", x, y); }};
            const drag = (x, y, u, v) => {{ send("pointerdown", x, y); send("pointermove", u, v); send("pointerup", u, v); }};
            {act}
        }}, 100);"""
    file.write_text(f'<!doctype html><meta charset="utf-8"><script>{wait}</script>{page}', encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --virtual-time-budget=200000 --user-data-dir={tmp_path}/user"
    command = ["chromium", *flags.split(), "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = {
        name: html.unescape(value) for name, value in re.findall(r'data-(pixels|sum|open|polygons)="([^"]*)"', dom)
    }
    return {name: json.loads(value) for name, value in found.items()} | {"dom": html.unescape(dom)}


def same_as(mask, found):
    labels = mask.long() * ((mask > 0) & (mask != 255))
    names = [name for name in labels.unique().tolist() if name]
    assert {int(name): count for name, count in found["pixels"].items()} == {n: int((labels == n).sum()) for n in names}
    places = torch.arange(1, labels.numel() + 1).reshape(labels.shape)
    assert int((labels * places).sum()) % 1000000007 == found["sum"]


@needs_browser
def test_a_browser_fills_the_same_pixels(frame, below, tmp_path):
    found = shown(drawing_html(frame, POLYGONS, below, index=5), tmp_path)
    same_as(paint_polygons(POLYGONS, (H, W), below), found)
    assert '--polygon "5=0:40,20 56,20 56,40"' in found["dom"] and found["open"] == []


@needs_browser
def test_clicks_drags_and_keys(frame, tmp_path):
    act = """
        click(10, 5); click(30, 5); click(30, 25); click(10, 5);             // closed on its first point
        drag(30, 25, 20, 30);                                                // a corner moved
        key("2"); key("ArrowRight", { shiftKey: true }); key("ArrowUp"); key(" ");
        for (let n = 0; n < 8; n++) key("ArrowRight");
        key(" "); for (let n = 0; n < 7; n++) key("ArrowUp"); key(" "); key("Enter");
        key("n"); click(2, 2); click(5, 2); click(5, 9); key("Enter"); key("Backspace"); key("Backspace"); key("Escape");
        click(40, 30); click(44, 30);                                        // stays open
    """
    found = shown(drawing_html(frame), tmp_path, act)
    first, second = [[10, 5], [30, 5], [20, 30]], [[30, 29], [38, 29], [38, 22]]
    assert found["polygons"] == [[1, first], [2, second]] and found["open"] == [[40, 30], [44, 30]]
    same_as(paint_polygons({1: [first], 2: [second]}, (H, W)), found)
    assert "object 3: 2 of at least 3 points" in found["dom"]
