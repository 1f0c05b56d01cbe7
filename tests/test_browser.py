"""The explorer in a real browser: what is pointed at changes the picture and, in JupyterLab, the traits in Python, to the right values.

Needs chromium, chromium-driver and selenium (extra `browser`); skipped without. `benchmarks/explorer.py` measures what this only checks.
"""

import base64
import json
import shutil
from pathlib import Path

import nbformat
import pytest
import torch
from browsers import CANVAS, Lab, View, missing, open_browser, wait

from tmrn_edu import exhibits, gallery
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.looking import look
from tmrn_edu.viz.explorer import Scene, unpack
from tmrn_edu.viz.trajectories import true_cells
from tmrn_edu.weights import load

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
READERS = {"STCN": "stcn-tiny", "TMRN": "tmrn-stcn-tiny"}
LEVEL, SEED, QUERIES, SIZE = "medium", 1, (4, 5), (64, 80)
GRID = (16, 20)
RIGHT, DOWN, LEFT, ESCAPE, SHIFT = "\ue014", "\ue015", "\ue012", "\ue00c", "\ue008"
YELLOW = [253, 231, 37, 255]  # viridis' last colour, opaque: the best cell


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("user")) as driver:
        yield driver


@pytest.fixture(scope="module")
def clip():
    return make_clip(SEED, LEVEL, 6, SIZE)


@pytest.fixture(scope="module")
def looks(clip):
    networks = {name: load(source) for name, source in READERS.items()}
    of = lambda network: [look(network, clip.frames, clip.index_masks, query, range(query)) for query in QUERIES]
    return {name: of(network) for name, network in networks.items()}


def matches(looks, reader, frame, cell):
    affinity = looks[reader][QUERIES.index(frame)].insides.affinity[0, :, :, cell[0] * GRID[1] + cell[1]]
    return [divmod(int(m), GRID[1]) for m in affinity.argmax(dim=1)]


def votes(looks, reader, frame, t, cell):
    return looks[reader][QUERIES.index(frame)].insides.affinity[0, t, cell[0] * GRID[1] + cell[1]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(exhibits, "FRAMES", 6)
    monkeypatch.setattr(exhibits, "QUERIES", QUERIES)
    exhibit = gallery.Exhibit("one", "One", "Point.", (LEVEL, SEED), READERS, SIZE)
    paths = gallery.gallery(tmp_path_factory.mktemp("gallery"), [exhibit])
    monkeypatch.undo()
    return paths


@pytest.fixture
def page(driver, pages):
    """The gallery's page, from a file, in a browser that is offline."""
    driver.set_network_conditions(offline=True, latency=0, throughput=0)
    driver.get(pages[0].as_uri())
    driver.find_element("css selector", "h2 a").click()
    yield View(driver)
    driver.delete_network_conditions()
    assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def far_apart(looks, clip):
    """A query cell and a memory frame in which the best cell is far from ring and cross, so that nothing is painted over it."""
    one = looks["STCN"][-1]
    true, visible = true_cells(one, clip)
    for q in range(GRID[0] * GRID[1]):
        cell = divmod(q, GRID[1])
        for t, best in enumerate(matches(looks, "STCN", QUERIES[-1], cell)):
            ring = one.insides.trajectory[0, t, :, cell[0], cell[1]] - torch.tensor(best)
            cross = (
                true[t, :, cell[0], cell[1]] / one.cell - torch.tensor(best)
                if visible[t, cell[0], cell[1]]
                else torch.full((2,), 99.0)
            )
            line = ring - cross  # between them
            if (
                ring.norm() > 4
                and cross.norm() > 4
                and (ring + cross).norm() > 4
                and line.norm() < 3
                and best[0] < GRID[0] - 5
            ):
                return cell, t, best
    raise AssertionError("no such cell on this clip")


def test_a_page_from_a_file_answers_without_a_network(page, looks, clip):
    first = page.state
    assert first["frame"] == 5 and first["reader"] == "STCN" and first["beside"] == "TMRN"
    assert page.matches == matches(looks, "STCN", 5, first["query"])
    before = page.picture()
    cell, t, best = far_apart(looks, clip)
    page.point(page.place(cell))
    assert page.state["query"] == list(cell) and page.matches == matches(looks, "STCN", 5, cell)
    assert page.matches[t] == best and page.colour(page.place(best, t)) == YELLOW
    assert page.picture() != before
    assert f"STCN, query cell ({cell[0]}, {cell[1]})" in page.words and "TMRN, query cell" in page.words


def test_pointers_of_two_readers_are_linked(page, looks):
    page.point(page.place((3, 4), row=1))
    assert page.state["query"] == [3, 4] and page.matches == matches(looks, "STCN", 5, (3, 4))


def test_dragging_moves_the_query(page, looks):
    page.point(page.place((2, 3)), page.place((5, 9)), page.place((8, 12)))
    assert page.state["query"] == [8, 12] and page.matches == matches(looks, "STCN", 5, (8, 12))
    page.point(page.place((8, 12)), page.place((9, 9), t=1))  # a drag that leaves the frame does not ask elsewhere
    assert page.state["memory_cell"] == []


def test_a_finger_points_too(page, looks):
    page.point(page.place((6, 5)), finger=True)
    assert page.state["query"] == [6, 5] and page.matches == matches(looks, "STCN", 5, (6, 5))


def test_keys(page, looks):
    page.point(page.place((6, 5)))
    page.press(RIGHT, DOWN)
    assert page.state["query"] == [7, 6]
    page.press(SHIFT, RIGHT, SHIFT)
    assert page.state["query"] == [7, 10] and page.matches == matches(looks, "STCN", 5, (7, 10))
    page.press("r")
    assert page.state["reader"] == "TMRN" and page.state["beside"] == "STCN"
    assert page.matches == matches(looks, "TMRN", 5, (7, 10))
    page.press(",", ",")
    assert page.state["frame"] == 4 and page.matches == matches(looks, "TMRN", 4, (7, 10))
    page.press(".", "s")
    assert page.state["frame"] == 5 and page.state["beside"] == ""
    before = page.picture()
    page.press("c")
    assert page.state["colour"] == "W u" and page.picture() != before
    assert "W u sums to one over all cells of all memory frames" in page.run("return root.innerText")
    page.press("c")
    assert page.state["colour"] == "agents" and "agents of that memory frame" in page.run("return root.innerText")


def test_scrubbing_by_the_slider(page, looks, driver):
    slider = driver.find_element("css selector", ".tmrn-explorer input[type=range]")
    before = page.picture()
    slider.send_keys(LEFT)
    assert page.state["frame"] == 4 and page.picture() != before
    assert page.matches == matches(looks, "STCN", 4, page.state["query"])


def test_asking_backwards(page, looks):
    page.point(page.place((6, 5)))
    page.press("m")
    t, cell = 4, matches(looks, "STCN", 5, (6, 5))[4]
    assert page.state["memory_cell"] == [4, *cell]
    page.point(page.place((7, 9), t=2))
    assert page.state["memory_cell"] == [2, 7, 9] and page.state["query"] == [6, 5]
    of = votes(looks, "STCN", 5, 2, (7, 9))
    most = divmod(int(of.argmax()), GRID[1])
    assert f"most of all ({most[0]}, {most[1]})" in page.words.splitlines()[0]
    page.press(ESCAPE)
    assert page.state["memory_cell"] == [] and page.matches == matches(looks, "STCN", 5, (6, 5))
    assert 0 <= t < len(page.matches)


def test_narrow_windows_stack_the_frames(driver, page):
    try:
        wide = page.run("return root.explorer.layout().rows[0].small[0].y")
        driver.set_window_size(500, 1300)
        wait(lambda: page.run("return root.explorer.layout().rows[0].small[0].y") > wide)
        page.point(page.place((4, 4)))
        assert page.state["query"] == [4, 4]
    finally:
        driver.set_window_size(1100, 1300)


# JupyterLab


def stored_scene(path) -> Scene | None:
    """Of the first view that a notebook holds, if it was built with this explorer."""
    widgets = nbformat.read(path, as_version=4).metadata.get("widgets", {})
    models = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {}).values()
    for model in models:
        if "views" in model["state"].get("about", {}):
            packed = next(buffer["data"] for buffer in model["buffers"] if buffer["path"] == ["packed"])
            return Scene(dict(model["state"]["about"]), base64.b64decode(packed))
    return None


def lessons() -> list[str]:
    return [path.name for path in sorted(NOTEBOOKS.glob("*.ipynb")) if stored_scene(path)]


CODE = f"""import tmrn_edu as te
from tmrn_edu.data.synthetic import make_clip
clip = make_clip({SEED}, {LEVEL!r}, 6, {SIZE})
networks = {{name: te.load(source) for name, source in {READERS!r}.items()}}
looks = {{n: [te.look(net, clip.frames, clip.index_masks, q, range(q)) for q in {QUERIES}] for n, net in networks.items()}}
view = te.viz.explore(looks, (20, 30), top_k=8, truth=clip)"""
TRAITS = "dict(query=view.query, frame=view.frame, reader=view.reader, beside=view.beside, memory_cell=view.memory_cell, colour=view.colour)"


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    """A folder with one notebook as written, and the same run by nbclient, with the state of its widgets."""
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(CODE), nbformat.v4.new_code_cell("view")]
    nbformat.write(notebook, folder / "live.ipynb")
    NotebookClient(notebook, timeout=300, store_widget_state=True).execute()
    nbformat.write(notebook, folder / "saved.ipynb")
    notebook.cells[0].source += "  # trust goes by content, so this one is another notebook"
    nbformat.write(notebook, folder / "untrusted.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(lab_folder):
    lab = Lab(lab_folder)
    yield lab
    lab.stop()


def test_in_jupyterlab_picture_and_traits_follow_each_other(driver, lab, looks):
    lab.show(driver, "live.ipynb")
    wait(lambda: driver.execute_script("return window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady"), 120)
    lab.run_all(driver)
    view = View(driver, seconds=180)
    ask, close = lab.python("live.ipynb")
    try:
        same = lambda: json.loads(json.dumps(ask(TRAITS))) == view.state
        right = lambda: (
            [tuple(m) for m in ask("view.matches")]
            == matches(looks, view.state["reader"], view.state["frame"], view.state["query"])
        )
        assert same() and right() and view.matches == [tuple(m) for m in ask("view.matches")]

        view.point(view.place((9, 7)))
        assert view.state["query"] == [9, 7] and wait(same, 20) and right()
        view.point(view.place((9, 7)), view.place((4, 15)))
        assert view.state["query"] == [4, 15] and wait(same, 20) and right()
        view.press(RIGHT, "r", ",")
        assert view.state["reader"] == "TMRN" and view.state["frame"] == 4 and view.state["query"] == [4, 16]
        assert wait(same, 20) and right()
        view.point(view.place((8, 3), t=1))
        assert wait(same, 20) and ask("view.memory_cell") == [1, 8, 3]
        found = torch.tensor(ask("view.votes.tolist()"))
        torch.testing.assert_close(found.ravel(), votes(looks, "TMRN", 4, 1, (8, 3)), rtol=1e-4, atol=1e-6)
        view.press(ESCAPE)
        assert wait(same, 20) and ask("view.votes") is None

        before = view.picture()
        ask("0", "view.query = (2, 2); view.frame = 5; view.reader = 'STCN'")
        wait(lambda: view.state["query"] == [2, 2] and view.state["frame"] == 5 and view.state["reader"] == "STCN", 20)
        assert (
            wait(same, 20)
            and view.state["beside"] == "TMRN"
            and view.picture() != before
            and view.matches == matches(looks, "STCN", 5, (2, 2))
        )
        ask("0", f"view.matches = {matches(looks, 'STCN', 5, (10, 6))}")
        assert wait(lambda: view.matches == matches(looks, "STCN", 5, (10, 6)), 20)
    finally:
        close()


def test_a_saved_notebook_answers_without_a_kernel(driver, lab, looks):
    """Opened again, no cell is run; JupyterLab starts a kernel of itself, which knows nothing of the view and is stopped here."""
    lab.trust("saved.ipynb")
    lab.show(driver, "saved.ipynb")
    view = View(driver, seconds=180)
    lab.stop_kernel("saved.ipynb")
    view.point(view.place((9, 7)))
    assert view.state["query"] == [9, 7] and view.matches == matches(looks, "STCN", 5, (9, 7))
    view.press("r", ",")
    assert view.matches == matches(looks, "TMRN", 4, (9, 7))


@pytest.mark.parametrize("name", lessons())
def test_a_lesson_answers_as_it_is_stored(driver, lab, name):
    """The views of the lessons, opened and trusted but not run: what the browser says is what the notebook holds."""
    shutil.copy(NOTEBOOKS / name, lab.folder / name)
    lab.trust(name)
    lab.show(driver, name)
    view = View(driver, seconds=180)
    scene = stored_scene(NOTEBOOKS / name)
    height, width = scene.about["grid"]
    for cell in ((height // 2, width // 3), (height // 3, width // 2)):
        view.point(view.place(cell))
        affinity = unpack(scene)[view.state["reader"]].affinity[:, :, cell[0] * width + cell[1]]
        assert view.state["query"] == list(cell)
        assert view.matches == [divmod(int(m), width) for m in affinity.argmax(dim=1)]
    before = view.picture()
    view.press(RIGHT)
    assert view.state["query"] == [cell[0], cell[1] + 1] and view.picture() != before
    if len(scene.about["readers"]) > 1:
        view.press("r")
        assert view.state["reader"] == scene.about["readers"][1]
    lab.stop_kernel(name)


def up_to_its_view(path):
    """A lesson as far as its first view, with nothing stored: what a reader runs for the first time."""
    notebook = nbformat.read(path, as_version=4)
    shows = ["application/vnd.jupyter.widget-view+json" in str(cell.get("outputs")) for cell in notebook.cells]
    notebook.cells = notebook.cells[: shows.index(True) + 1]
    notebook.metadata.pop("widgets")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


IN_KERNEL = """import gc
shown = [thing for thing in gc.get_objects() if type(thing).__name__ == "Explorer"][-1]
def asked():  # what the browser must say: from the whole affinity of the read
    look = shown._looks[shown.reader]
    width = look.insides.trajectory.shape[-1]
    q = shown.query[0] * width + shown.query[1]
    return [divmod(int(m), width) for m in look.insides.affinity[0, :, :, q].argmax(dim=1)]"""


@pytest.mark.parametrize("name", lessons())
def test_a_lesson_runs_and_its_view_answers(driver, lab, name):
    """Run from the top in JupyterLab; then pointed at, dragged, moved by keys, and switched to the other reader, with Python following."""
    live = f"live_{name}"
    nbformat.write(up_to_its_view(NOTEBOOKS / name), lab.folder / live)
    lab.show(driver, live)
    wait(lambda: driver.execute_script("return window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady"), 120)
    lab.run_all(driver)
    view = View(driver, seconds=300)
    ask, close = lab.python(live)
    try:
        ask("0", IN_KERNEL)
        same = lambda: ask("list(shown.query)") == view.state["query"] and ask("shown.reader") == view.state["reader"]
        right = lambda: [tuple(m) for m in ask("asked()")] == view.matches == [tuple(m) for m in ask("shown.matches")]
        height, width = ask("shown.about['grid']")
        assert wait(same, 20) and right()
        places = [
            (height // 2, width // 3),
            (height // 3, width // 2),
            (height // 4, width // 4),
            (height // 5, width // 2),
        ]
        places = [place for place in places if list(place) != view.state["query"]][:3]
        before = view.picture()
        view.point(view.place(places[0]))
        assert view.state["query"] == list(places[0]) and wait(same, 20) and right() and view.picture() != before
        view.point(*map(view.place, places))
        assert view.state["query"] == list(places[-1]) and wait(same, 20) and right()
        view.press(RIGHT, DOWN)
        assert view.state["query"] == [places[-1][0] + 1, places[-1][1] + 1] and wait(same, 20) and right()
        readers = ask("shown.about['readers']")
        if len(readers) > 1:
            view.press("r")
            assert view.state["reader"] == readers[1] and wait(same, 20) and right()
        view.press("m")
        assert wait(lambda: ask("list(shown.memory_cell)") == view.state["memory_cell"] != [], 20)
    finally:
        close()
    lab.stop_kernel(live)


DRAWING = f"""import torch
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.viz.drawing import Drawing
view = Drawing(make_clip({SEED}, {LEVEL!r}, 2, {SIZE}).frames[0])"""


def test_outlines_drawn_in_jupyterlab_are_masks_in_python(driver, lab):
    """Clicks, a dragged corner and keys on the drawing widget of lesson 09; outlines set from Python are shown."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(DRAWING), nbformat.v4.new_code_cell("view")]
    nbformat.write(notebook, lab.folder / "drawing.ipynb")
    lab.show(driver, "drawing.ipynb")
    wait(lambda: driver.execute_script("return window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady"), 120)
    lab.run_all(driver)
    view = View.of(driver, "document.querySelector('.jp-OutputArea [data-polygons]')", seconds=120)
    held = lambda: json.loads(view.run("return root.dataset.polygons"))
    width = view.run("return root.querySelector('canvas').getBoundingClientRect().width")
    at = lambda x, y: ((x + 0.5) * width / SIZE[1], (y + 0.5) * width / SIZE[1])
    ask, close = lab.python("drawing.ipynb")
    try:
        for place in ((10, 8), (40, 8), (40, 30), (10, 8)):  # closed on its first point
            view.point(at(*place))
        ((name, outline),) = wait(held, 20)
        assert name == 1 and torch.tensor(outline).sub(torch.tensor([[10, 8], [40, 8], [40, 30]])).abs().max() <= 1
        python = (
            "[[name, [list(point) for point in outline]] for name, all in view.polygons.items() for outline in all]"
        )
        wait(lambda: ask(python) == held(), 20)
        assert ask("int((view.mask == 1).sum())") == view.run("return JSON.parse(root.dataset.pixels)[1]")

        view.point(at(*outline[2]), at(20, 40))  # a corner dragged
        wait(lambda: ask(python) == held() != [[1, outline]], 20)
        view.press("2")
        wait(lambda: ask("view.object") == 2, 20)
        ask("0", "view.polygons = {1: [[(4, 4), (20, 4), (20, 20)]]}")
        assert wait(lambda: held() == [[1, [[4, 4], [20, 4], [20, 20]]]], 20)
    finally:
        close()
    lab.stop_kernel("drawing.ipynb")


def test_an_untrusted_notebook_shows_the_still(driver, lab):
    lab.show(driver, "untrusted.ipynb")
    picture = "return [...document.querySelectorAll('.jp-OutputArea img')].filter((i) => i.naturalWidth > 500).length"
    assert wait(lambda: driver.execute_script(picture), 120) == 1
    assert not driver.find_elements("css selector", CANVAS)
