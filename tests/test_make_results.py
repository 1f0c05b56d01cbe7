"""docs/results.md: what tools/make_results.py writes is what its stored scores say, and it touches nothing else."""

import importlib.util
import sys
from pathlib import Path

import pytest

from tmrn_edu.ablation import read_table, table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(ROOT / "benchmarks"))  # it imports benchmarks/ablation.py
    try:
        spec = importlib.util.spec_from_file_location("make_results", ROOT / "tools" / "make_results.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


def block(name):
    return PAGE.read_text().split(f"<!-- begin {name} -->\n")[1].split(f"\n<!-- end {name} -->")[0]


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("ablation-synthetic", "ablation_synthetic"),
        ("ablation-trained", "ablation_trained"),
        ("ablation-davis-mini", "ablation_davis_mini"),
    ],
)
def test_the_page_holds_the_stored_scores(name, stored):
    assert block(name).endswith(table(read_table(ROOT / "docs" / "data" / f"{stored}.csv")))


def test_networks_of_the_page_are_the_stored_ones(tool):
    rows = read_table(ROOT / "docs" / "data" / "networks_synthetic.csv")
    cell = tool.difference(rows, "stcn-tiny", "tmrn-stcn-chained-tiny", "medium")
    assert f" {cell} |" in block("networks-synthetic") and "[" in cell
    assert f"| stcn-tiny | {tool.difference(rows, 'stcn-tiny', 'stcn-tiny', 'easy')} |" in block("networks-synthetic")


def test_every_block_has_its_place(tool):
    page = PAGE.read_text()
    for blocks in tool.PARTS.values():
        for name in blocks:
            assert block(name) in tool.put(page, name, block(name)) == page


def test_only_one_block_changes(tool):
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    assert tool.put(page, "x", "new\nlines") == "a\n<!-- begin x -->\nnew\nlines\n<!-- end x -->\nb\n"
    with pytest.raises(
        SystemExit, match="the page has 0 lines '<!-- begin y -->' and 0 '<!-- end y -->', expected one of each"
    ):
        tool.put(page, "y", "")
