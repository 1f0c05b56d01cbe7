"""The explorer: what is packed equals the affinities, in Python and in a browser; the widget; the piece of HTML."""

import base64
import html
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from browsers import View, missing, open_browser
from einops import rearrange

import tmrn_edu.viz as viz
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.looking import look, without
from tmrn_edu.memory.readers import Insides, SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.viz.affinity import check_pixel, muted, outlined
from tmrn_edu.viz.explorer import Scene, pack, unpack

H, W, QUERY, MEMORY = 40, 56, 4, (0, 1, 3)  # padded to 48 x 64: a grid of 12 x 16
PIXEL, CELL = (17, 30), (5, 8)


@pytest.fixture(scope="module")
def clip():
    return make_clip(seed=4, level="hard", frames=5, size=(H, W))


@pytest.fixture(scope="module")
def looks(clip):
    torch.manual_seed(0)
    readers = {"STCN": SpaceTimeReader(), "TMRN </script>": TrajectoryReader.chained(32, 64)}
    networks = {name: STCN.tiny(reader) for name, reader in readers.items()}
    return {name: look(n, clip.frames, clip.index_masks, QUERY, MEMORY) for name, n in networks.items()}


@pytest.fixture(scope="module")
def view(looks, clip):
    return viz.explore(looks, PIXEL, truth=clip)


@pytest.fixture(scope="module")
def page(looks, clip):
    return viz.explorer_html(looks, PIXEL, truth=clip)


def large_look(sharpness):
    """Seven memory frames of 24 x 24 cells, as on the clips of 96 x 96 pixels, with affinities around random places."""
    generator = torch.manual_seed(1)
    grid = torch.stack(torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")).float()
    place = torch.rand(7, 576, 2, generator=generator) * 23
    cells = rearrange(grid, "yx h w -> (h w) yx")
    noise = torch.rand(7, 576, 576, generator=generator)
    affinity = (-sharpness * (torch.cdist(cells.expand(7, -1, -1), place) + noise)).softmax(dim=1)
    insides = Insides(
        memory_indices=tuple(range(7)),
        affinity=rearrange(affinity, "t m q -> 1 t m q"),
        temporal_weights=torch.rand(1, 7, 576, generator=generator).softmax(dim=1),
        aligned_value=torch.zeros(1, 1, 7, 1, 24, 24),
        trajectory=rearrange(place, "t (h w) yx -> 1 t yx h w", h=24),
    )
    clip = make_clip(seed=2, level="hard")
    network = STCN.tiny()
    one = look(network, clip.frames, clip.index_masks, 7, [0])
    return replace(one, memory=tuple(range(7)), insides=insides)


def test_packed_affinities_are_the_best_ones(looks):
    scene = pack(looks, top_k=30)
    assert scene.about["k"] == 30
    for name, unpacked in unpack(scene).items():
        affinity = looks[name].insides.affinity[0]
        assert unpacked.affinity.shape == affinity.shape
        peak = affinity.amax(dim=1, keepdim=True)
        best = affinity.topk(30, dim=1)
        kept = torch.zeros_like(affinity).scatter(1, best.indices, best.values)
        # Half a level of 15 on the square-root scale, a whole one for rivals as good as the best; half one of 255 for the peak.
        assert ((unpacked.affinity - kept).abs() <= 0.14 * peak + 1.1 * peak.sqrt() / 255).all()
        assert ((unpacked.affinity > 0) <= (kept > 0)).all()
        assert unpacked.affinity.argmax(dim=1).equal(affinity.argmax(dim=1))
        torch.testing.assert_close(
            unpacked.temporal_weights, looks[name].insides.temporal_weights[0], atol=0.004, rtol=0
        )
        paths = rearrange(looks[name].insides.trajectory[0], "t yx h w -> t yx (h w)")
        torch.testing.assert_close(unpacked.trajectory, paths, atol=0.07, rtol=0)


def test_share_says_how_much_is_shown(looks):
    scene = pack(looks, top_k=5)
    for name, share in zip(scene.about["readers"], scene.about["share"], strict=True):
        assert share == pytest.approx(
            float(looks[name].insides.affinity[0].topk(5, dim=1).values.sum(dim=1).mean()), abs=1e-3
        )
    every = pack(looks, top_k=1000)
    assert every.about["k"] == 192 and every.about["share"] == [pytest.approx(1.0, abs=1e-3)] * 2


def test_matches_are_the_argmax(looks, view):
    view.reader, view.query = "STCN", CELL
    for name in looks:
        view.reader = name
        for query in ((5, 8), (0, 0), (11, 15)):
            view.query = query
            affinity = looks[name].insides.affinity[0, :, :, query[0] * 16 + query[1]]
            assert view.matches == [(int(m) // 16, int(m) % 16) for m in affinity.argmax(dim=1)]
            assert all(type(number) is int for cell in view.matches for number in cell)
    view.reader, view.query = "STCN", CELL


def test_query_starts_at_the_pixel(view, looks, clip):
    assert view.query == CELL == check_pixel(looks["STCN"], PIXEL)
    assert check_pixel(looks["STCN"], view.pixel) == CELL
    assert check_pixel(looks["STCN"], viz.choose_pixel(looks, clip)) == viz.explore(looks, truth=clip).query
    view.query = [0, 15]  # as it comes from the browser: a list; a cell in the padding
    assert view.query == (0, 15) and view.pixel == (0, W - 1)
    view.query = CELL


def test_what_is_written_does_not_change(view, looks, clip):
    assert repr(view) == "Explorer(STCN, TMRN </script>: query cell (5, 8), 3 memory frames)"
    again = viz.explore(looks, PIXEL, truth=clip)
    assert repr(again) == repr(view) and again.packed == view.packed and again.about == view.about


def test_there_is_a_picture_for_readers_without_a_kernel(view):
    data, _ = view._repr_mimebundle_()
    assert set(data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert data["text/plain"] == repr(view)
    picture = base64.b64decode(data["image/png"])
    assert picture.startswith(b"\x89PNG") and len(picture) < 200_000


@pytest.mark.parametrize("sharpness", [0.3, 3.0])
def test_a_view_stays_small(sharpness):
    one = large_look(sharpness)
    views = [viz.explore(one, (50, 50)), viz.explore({"a": one, "b": one, "c": one}, (50, 50))]
    for view in views:
        state = view.get_state()
        size = len(json.dumps({k: v for k, v in state.items() if k != "packed"})) + len(
            base64.b64encode(state["packed"])
        )
        assert 100_000 < size < 400_000
    assert views[0].about["k"] == 30 and 3 <= views[1].about["k"] <= 30


def test_errors_name_both_sides(looks, clip, view):
    with pytest.raises(InputError, match=r"pixel \(40, 5\) .* outside the frame, which has 40 x 56"):
        viz.explore(looks, (40, 5))
    with pytest.raises(InputError, match=r"pixel \(5, 56\) .* outside the frame, which has 40 x 56"):
        viz.explorer_html(looks, (5, 56))
    with pytest.raises(InputError, match=r"query cell \(12, 0\) .* outside the grid, which has 12 x 16 cells"):
        view.query = (12, 0)
    with pytest.raises(InputError, match="no reader is called 'XMem'; there are STCN, TMRN"):
        view.reader = "XMem"
    assert view.query == CELL and view.reader == "STCN"
    with pytest.raises(InputError, match=r"memory frames: \(0, 1, 3\) in 'a', \(0, 1, 2\) in 'b'"):
        viz.explore({"a": looks["STCN"], "b": replace(looks["STCN"], memory=(0, 1, 2))}, PIXEL)
    with pytest.raises(InputError, match="top_k is 0, expected at least 1"):
        pack(looks, top_k=0)
    with pytest.raises(InputError, match=r"2 looks with 3 memory frames of 12 x 16 cells take \d+ bytes .* holds 9000"):
        pack(looks, budget=9000)
    with pytest.raises(InputError, match="expected the clip that was looked at"):
        viz.explore(looks, PIXEL, truth=make_clip(seed=3, level="hard", frames=5, size=(H, W)))


def test_less_room_means_fewer_cells(looks):
    budget = 62_000
    tight = pack(looks, top_k=30, budget=budget)
    assert 1 <= tight.about["k"] < pack(looks, top_k=30).about["k"] == 30
    assert len(base64.b64encode(tight.packed)) + len(json.dumps(tight.about)) < budget


def test_html_holds_all_it_needs(page, looks, clip):
    assert page.startswith("<div ") and page.rstrip().endswith("</div>")
    assert "http" not in page and page.count("</script>") == 1 and page.count("<script") == 1
    assert not re.search(r'(?:src|href)="(?!data:)', page) and "import(" not in page and "fetch(" not in page
    assert html.escape("TMRN </script>") in page
    state = json.loads(re.search(r"^const state = (.+);$", page, flags=re.M)[1])
    packed = base64.b64decode(re.search(r'atob\("([^"]+)"\)', page)[1])
    expected = pack(looks, truth=clip)
    assert Scene(state["about"], packed) == expected
    assert state["query"] == list(CELL) and state["reader"] == "STCN"
    assert page == viz.explorer_html(looks, PIXEL, truth=clip)


def test_pictures_in_the_scene_are_the_frames(looks):
    import io

    from PIL import Image

    about = pack(looks).about
    assert len(about["frames"]) == 4 and len(about["outlines"]) == 3 and len(about["predicted"]) == 2
    frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(about["frames"][-1].split(",")[1]))))
    truth = looks["STCN"].frames[QUERY].numpy()
    assert frame.shape == truth.shape and np.abs(frame.astype(int) - truth).mean() < 12  # JPEG
    rim = np.asarray(Image.open(io.BytesIO(base64.b64decode(about["outlines"][0].split(",")[1]))).convert("RGBA"))
    mask = looks["STCN"].index_masks[0].numpy()
    assert rim.shape == (H, W, 4) and not rim[mask == 0, 3].any()
    assert 0 < (rim[..., 3] == 255).sum() < (mask > 0).sum()


def test_the_query_frame_keeps_its_colours_inside_the_outlines(looks):
    import io

    from PIL import Image

    predicted = torch.zeros(H, W, dtype=torch.uint8)
    predicted[8:30, 10:40] = 1
    about = pack(replace(looks["STCN"], predicted=predicted)).about
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(about["predicted"][0][0].split(",")[1]))).convert("RGBA"))
    assert (
        shown.shape == (2 * H, 2 * W, 4) and not shown[20:56, 24:76, 3].any()
    )  # finer than the frame; nothing over the object itself
    assert shown[16:18, 30, :3].tolist() == [list(map(int, viz.overlays.PALETTE[1]))] * 2 and shown[
        15, 30
    ].tolist() == [0, 0, 0, 255]
    frame = looks["STCN"].frames[QUERY]
    assert outlined(frame, predicted)[10:28, 12:38].equal(frame[10:28, 12:38])


def test_muted_frames_keep_things_apart():
    two = torch.tensor([[[255, 0, 255], [0, 160, 0]], [[20, 20, 20], [250, 250, 250]]], dtype=torch.uint8)
    pale = muted(two).float()
    assert pale.min() >= 30 and pale.max() < 230
    assert (pale[0, 0] - pale[0, 1]).abs().max() > 80 and (pale[1, 0] - pale[1, 1]).abs().max() > 80


# Several query frames, two readers, agents, asking backwards


@pytest.fixture(scope="module")
def several(clip):
    torch.manual_seed(0)
    networks = {"STCN": STCN.tiny(SpaceTimeReader()), "TMRN": STCN.tiny(TrajectoryReader.chained(32, 64))}
    of = lambda network: [look(network, clip.frames, clip.index_masks, q, range(q)) for q in (2, QUERY)]
    return {name: of(network) for name, network in networks.items()}


@pytest.fixture
def scrubbed(several, clip):
    return viz.explore(several, PIXEL, truth=clip)


def matches_of(one, cell):
    affinity = one.insides.affinity[0, :, :, cell[0] * 16 + cell[1]]
    return [divmod(int(m), 16) for m in affinity.argmax(dim=1)]


def test_every_query_frame_is_packed(several, clip):
    scene = pack(several, truth=clip)
    assert [view["query"] for view in scene.about["views"]] == [2, QUERY] and scene.about["query"] == QUERY
    assert scene.about["numbers"] == [0, 1, 2, 3, 4] and scene.about["stored"] == [0, 1, 2, 3]
    for number, frame in enumerate((2, QUERY)):
        for name, unpacked in unpack(scene, frame).items():
            one = several[name][number]
            assert unpacked.affinity.argmax(dim=1).equal(one.insides.affinity[0].argmax(dim=1))
            paths = rearrange(one.insides.trajectory[0], "t yx h w -> t yx (h w)")
            torch.testing.assert_close(unpacked.trajectory, paths, atol=0.07, rtol=0)


def test_traits_follow_the_query_frame(scrubbed, several):
    heard = []
    scrubbed.observe(lambda change: heard.append(change["new"]), "matches")
    assert scrubbed.frame == QUERY and scrubbed.matches == matches_of(several["STCN"][1], CELL)
    scrubbed.frame = 2
    assert scrubbed.matches == matches_of(several["STCN"][0], CELL) == heard[-1] and len(scrubbed.matches) == 2
    assert repr(scrubbed) == "Explorer(STCN, TMRN: query cell (5, 8) of frame 2, 2 memory frames)"
    scrubbed.reader = "TMRN"
    assert scrubbed.beside == "STCN" and scrubbed.matches == matches_of(several["TMRN"][0], CELL)


def test_matches_can_be_set(scrubbed, several):
    scrubbed.matches = matches_of(several["STCN"][1], (3, 11))
    assert scrubbed.matches == matches_of(several["STCN"][1], (3, 11))
    one = several["STCN"][1].insides.affinity[0].argmax(dim=1)
    asked = [None, (2, 3), None, None]
    scrubbed.matches = asked
    best = ((one[1] // 16 - 2) ** 2 + (one[1] % 16 - 3) ** 2).min()
    found = scrubbed.matches[1]
    assert (found[0] - 2) ** 2 + (found[1] - 3) ** 2 == best


def test_asking_backwards(scrubbed, several):
    assert scrubbed.votes is None
    scrubbed.memory_cell = (3, 4, 7)
    expected = rearrange(several["STCN"][1].insides.affinity[0, 3, 4 * 16 + 7], "(h w) -> h w", w=16)
    assert scrubbed.votes.equal(expected) and repr(scrubbed).endswith(", memory cell (3, 4, 7))")
    scrubbed.frame = 2  # which does not read frame 3
    assert scrubbed.memory_cell == () and scrubbed.votes is None


def test_what_the_browser_sends_arrives_whole(scrubbed, several):
    sent = {
        "query": [2, 3],
        "frame": 2,
        "reader": "TMRN",
        "beside": "STCN",
        "memory_cell": [1, 4, 5],
        "colour": "agents",
    }
    scrubbed.set_state(sent)
    assert (scrubbed.query, scrubbed.frame, scrubbed.reader, scrubbed.beside) == ((2, 3), 2, "TMRN", "STCN")
    assert scrubbed.memory_cell == (1, 4, 5) and scrubbed.matches == matches_of(several["TMRN"][0], (2, 3))


def test_agents_answer_for_every_cell(several):
    maps = several["TMRN"][1].agents
    assert maps.memory.shape == maps.query.shape == (4, 8, 192) and several["STCN"][1].agents is None
    for likelihood in (maps.memory, maps.query):
        torch.testing.assert_close(likelihood.sum(dim=1), torch.ones(4, 192))
    scene = pack(several)
    assert scene.about["agents"] == [0, 8] and len(scene.about["agentColours"]) == 8
    winners = np.frombuffer(zlib.decompress(scene.packed)[-4 * 2 * 192 :], np.uint8).reshape(4, 2, 192)
    assert np.array_equal(winners[:, 0], maps.memory.argmax(dim=1).numpy())
    np.testing.assert_allclose(winners[:, 1] / 255, maps.memory.amax(dim=1).numpy(), atol=0.002)


def test_parts_can_be_switched_off(clip):
    torch.manual_seed(0)
    network = STCN.tiny(TrajectoryReader.chained(32, 64, beta=0.5, rectify=1.0))
    off = without(network, "chaining", "agents")
    assert off.reader.beta.item() == off.reader.rectify.item() == 0 and network.reader.beta.item() == 0.5
    plain = STCN.tiny(SpaceTimeReader())
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("reader")}, strict=False)
    of = lambda one: look(one, clip.frames, clip.index_masks, QUERY, MEMORY).insides.affinity
    torch.testing.assert_close(of(off), of(plain))  # what is left is the space-time read's similarity
    assert (of(network) - of(off)).abs().max() > 0.01
    with pytest.raises(InputError, match="'mutual' asked for, TrajectoryReader has agents, chaining; expected one of"):
        without(network, "mutual")
    with pytest.raises(InputError, match="'agents' asked for, SpaceTimeReader has none of them"):
        without(plain, "agents")


def test_frames_that_are_not_read_have_no_match(several):
    one = several["STCN"][1]
    affinity = one.insides.affinity.clone()
    affinity[:, 1, :, CELL[0] * 16 + CELL[1]] = 0  # nothing of frame 1 is among the network's top k
    view = viz.explore(replace(one, insides=replace(one.insides, affinity=affinity)), PIXEL)
    assert view.matches[1] is None and view.matches[0] == matches_of(one, CELL)[0] and view.about["empty"]


def test_errors_of_several_frames(several, scrubbed):
    first, last = several["STCN"]
    with pytest.raises(InputError, match=r"query frames: \[2, 4\] in 'a', \[4\] in 'b'; expected the same"):
        viz.explore({"a": [first, last], "b": last}, PIXEL)
    with pytest.raises(InputError, match=r"query frames: \[4, 4\] in 'a', expected each of them once"):
        viz.explore({"a": [last, last]}, PIXEL)
    with pytest.raises(
        InputError, match="pixels per cell: 4 for query frame 2, 8 for query frame 4; expected the same"
    ):
        viz.explore([first, replace(last, cell=8)], PIXEL)
    with pytest.raises(InputError, match="0 looks to draw"):
        viz.explore({"a": []})
    with pytest.raises(InputError, match="frame 3 was not looked at; query frames are 2, 4"):
        scrubbed.frame = 3
    with pytest.raises(InputError, match=r"frame 4 is not in the memory of frame 4, which holds \[0, 1, 2, 3\]"):
        scrubbed.memory_cell = (4, 0, 0)
    with pytest.raises(InputError, match=r"memory cell \(12, 0\) .* outside the grid, which has 12 x 16 cells"):
        scrubbed.memory_cell = (0, 12, 0)
    with pytest.raises(InputError, match=r"memory_cell is \(1, 2\), expected \(frame, y, x\)"):
        scrubbed.memory_cell = (1, 2)
    with pytest.raises(InputError, match="colour is 'red', expected one of 'W', 'W u', 'agents'"):
        scrubbed.colour = "red"
    with pytest.raises(InputError, match="colour is 'agents', but no reader has agents: reader"):
        viz.explore(last, PIXEL).colour = "agents"
    with pytest.raises(InputError, match="beside is 'STCN', which is shown already"):
        scrubbed.beside = "STCN"
    with pytest.raises(InputError, match=r"matches set to \[\(1, 2\)\], expected 4 cells"):
        scrubbed.matches = [(1, 2)]
    with pytest.raises(InputError, match="take .* for 2 query frames|for 2 query frames take"):
        pack(several, budget=9000)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
def test_a_browser_finds_the_same_matches(page, view, tmp_path):
    file = tmp_path / "page.html"
    # Chromium's virtual time runs on while pictures are decoded elsewhere, so something has to take real time until then.
    tick = "for (let n = 0; n < 5e6; n++) Math.sqrt(n); if (document.querySelector('[data-matches]')) clearInterval(i);"
    wait = f"const i = setInterval(() => {{ {tick} }}, 100);"
    file.write_text(f'<!doctype html><meta charset="utf-8"><script>{wait}</script>{page}', encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --virtual-time-budget=200000 --user-data-dir={tmp_path}/user"
    command = ["chromium", *flags.split(), "--dump-dom", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    view.reader, view.query = "STCN", CELL
    found = json.loads(html.unescape(re.search(r'data-matches="([^"]+)"', shown)[1]))
    assert [tuple(cell) for cell in found] == view.matches
    assert f"STCN, query cell {CELL}, pixel {view.pixel}" in shown


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
def test_two_readers_fit_into_a_window(tmp_path, clip):
    """On a projector and a laptop both rows, controls and words are seen at once, in letters to be read; a phone does not scroll sideways."""
    torch.manual_seed(0)
    networks = {"one": STCN.tiny(SpaceTimeReader()), "two": STCN.tiny(TrajectoryReader.paper(32, 64))}
    long = make_clip(seed=4, level="hard", frames=8, size=(64, 64))
    of = lambda network: [look(network, long.frames, long.index_masks, q, range(q)) for q in (6, 7)]
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    file = tmp_path / "page.html"
    file.write_text(
        head + viz.explorer_html({name: of(n) for name, n in networks.items()}, truth=long), encoding="utf-8"
    )
    measure = """const l = root.explorer.layout(), r = root.getBoundingClientRect(), words = root.querySelector('.line').getBoundingClientRect();
        return { bottom: words.bottom - r.top, width: l.width, font: l.font, small: l.rows[0].small[0].width, rows: l.rows.length,
                 over: document.documentElement.scrollWidth - innerWidth, brief: root.querySelector('.brief').getBoundingClientRect().top
                 < root.querySelector('canvas').getBoundingClientRect().top }"""
    with open_browser(tmp_path / "user") as driver:
        seen = {}
        for size in ((1920, 1080), (1280, 720), (1280, 600), (390, 800)):
            metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(file.as_uri())
            seen[size] = View(driver).run(measure)
    assert all(one["rows"] == 2 and one["over"] <= 0 and one["brief"] for one in seen.values())
    for (_, height), one in list(seen.items())[:3]:
        assert one["bottom"] <= height and one["small"] >= 120
    assert (
        seen[1920, 1080]["width"] == 1600 and 16 <= seen[1920, 1080]["font"] <= 17 and seen[1920, 1080]["small"] > 160
    )
    assert seen[1280, 720]["font"] > 14 and seen[390, 800]["font"] == 13
