"""How fast the explorer is in a real browser, and how large: prints Markdown for docs/explorer.md.

    python benchmarks/explorer.py            # needs the extra `browser`, chromium and chromium-driver

Each kind of view twice: as a page from a file, without a network, and in JupyterLab on this machine.
*first picture*: from the start of loading the page, or from the moment the cell is run (packing, the still, the way through the kernel
included), until the view is drawn. *pointer to picture*: from the pointer event until the browser has painted the frame that answers it.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from browsers import Lab, View, missing, open_browser, wait  # noqa: E402

import tmrn_edu as te  # noqa: E402
from tmrn_edu.data.synthetic import make_clip  # noqa: E402
from tmrn_edu.viz.explorer import explorer_html, pack  # noqa: E402

SETUP = """import tmrn_edu as te
from tmrn_edu.data.synthetic import make_clip
clip = make_clip(1, "medium", 8)
networks = {{name: te.load(name) for name in {names}}}
looks = {{n: [te.look(net, clip.frames, clip.index_masks, q, range(q)) for q in {queries}] for n, net in networks.items()}}"""
SHOW = "te.viz.explore(looks, (30, 38), truth=clip)"
KINDS = {  # name: readers, query frames
    "one reader, 7 memory frames": (["stcn-tiny"], [7]),
    "two readers, 7 memory frames": (["stcn-tiny", "tmrn-stcn-tiny"], [7]),
    "two readers, 3 query frames": (["stcn-tiny", "tmrn-stcn-tiny"], [5, 6, 7]),
}
WATCH = """
window.took = [];
root.querySelector('canvas').addEventListener('pointerdown', (event) => requestAnimationFrame(() => {
  const painted = new MessageChannel();
  painted.port1.onmessage = () => window.took.push(performance.now() - event.timeStamp);
  painted.port2.postMessage(0);
}), { capture: true });
"""
MARK = "return performance.getEntriesByName('tmrn-explorer').at(-1)?.startTime"


def clicks(view: View, count: int) -> list[float]:
    """Milliseconds from pointer to picture, over `count` cells of the query frame."""
    view.run(WATCH)
    height, width = 24, 24
    for i in range(count):
        view.point(view.place(((5 * i) % height, (7 * i) % width)))
    wait(lambda: view.driver.execute_script("return window.took.length") >= count)
    return view.driver.execute_script("return window.took")[2:]  # the first ones warm up


def of_file(driver, folder: Path, looks, clip, count: int):
    """First picture and clicks of a page from a file."""
    path = folder / "page.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8">{explorer_html(looks, (30, 38), truth=clip)}', encoding="utf-8"
    )
    first = []
    for _ in range(3):
        driver.get(path.as_uri())
        view = View(driver)
        first.append(driver.execute_script(MARK))
    return median(first), clicks(view, count)


def of_lab(driver, lab: Lab, folder: Path, number: int, names, queries, count: int):
    """First picture, clicks, and the bytes of widget state that the notebook saves."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    setup = (
        SETUP.format(names=names, queries=queries) + f"\n{SHOW}._repr_mimebundle_()\nprint('made')"
    )  # imports and caches once
    notebook.cells = [nbformat.v4.new_code_cell(setup), *(nbformat.v4.new_code_cell(SHOW) for _ in range(3))]
    nbformat.write(notebook, folder / f"{number}.ipynb")
    lab.show(driver, f"{number}.ipynb")
    wait(lambda: driver.execute_script("return window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady"), 120)
    step = "window.jupyterapp.commands.execute('notebook:run-cell-and-select-next'); return performance.now()"
    driver.execute_script(step)
    wait(
        lambda: driver.execute_script("return document.querySelector('.jp-OutputArea')?.innerText.includes('made')"),
        180,
    )
    time.sleep(1)
    first = []
    for _ in range(3):
        before = driver.execute_script("performance.clearMarks(); " + step)
        first.append(wait(lambda: driver.execute_script(MARK), 60) - before)
    view = View(driver, 2)
    took = clicks(view, count)
    lab.stop_kernel(f"{number}.ipynb")
    return median(first), took


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="example: python benchmarks/explorer.py --clicks 20"
    )
    parser.add_argument("--clicks", type=int, default=30, help="points asked in each view (%(default)s)")
    parser.add_argument("--no-lab", action="store_true", help="pages from a file only")
    options = parser.parse_args()
    if missing():
        sys.exit(f"benchmarks/explorer.py {missing()}")
    clip = make_clip(1, "medium", 8)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; median of {options.clicks - 2} clicks, (largest).\n")
    print(
        "| view | k | share of W | saved state | shown | first picture | pointer to picture |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lab = None if options.no_lab else Lab(folder)
        try:
            with open_browser(folder / ".user") as driver:
                for number, (kind, (names, queries)) in enumerate(KINDS.items()):
                    looks = {
                        name: [te.look(te.load(name), clip.frames, clip.index_masks, q, range(q)) for q in queries]
                        for name in names
                    }
                    scene = pack(looks, truth=clip)
                    state = te.viz.explore(looks, (30, 38), truth=clip).get_state()
                    size = len(json.dumps(state | {"packed": "x" * (-(-len(state["packed"]) // 3) * 4)}))
                    share = ", ".join(f"{100 * share:.0f} %" for share in scene.about["share"])
                    rows = {"file": of_file(driver, folder, looks, clip, options.clicks)}
                    if lab:
                        rows["JupyterLab"] = of_lab(driver, lab, folder, number, names, queries, options.clicks)
                    for where, (first, took) in rows.items():
                        numbers = f"{first:.0f} ms | {median(took):.0f} ms ({max(took):.0f})"
                        print(
                            f"| {kind} | {scene.about['k']} | {share} | {size / 1000:.0f} kB | {where} | {numbers} |",
                            flush=True,
                        )
        finally:
            if lab:
                lab.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
