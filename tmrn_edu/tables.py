"""A comparison printed: Markdown to read, LaTeX (booktabs) for a paper, tidy CSV for everything else.

Markdown and LaTeX have numbers in percent with a decimal, as papers print them; CSV has a line per number, in [0, 1].
Tables are the same in both: made once as headings and cells, then written in either's words.
"""

import csv
import io
from dataclasses import dataclass, field

from tmrn_edu.bootstrap import DRAWS, FEW
from tmrn_edu.compare import Comparison, Record
from tmrn_edu.errors import InputError

MARKS = {"no": "n.s.", "few": "few"}
NOTES = {
    "interval": f"Brackets: 95 % interval of the difference, {DRAWS:,} bootstrap draws of whole sequences.",
    "no": "n.s.: the interval holds zero, the difference may be chance.",
    "few": f"few: fewer than {FEW} sequences, too few to tell from chance even if all go one way.",
    "attribute": "A sequence may have several attributes; intervals are not corrected for the number of rows.",
}
FIRST, RATE = ("G", "J&F", "J", "F"), "frames/s"  # measures in tables of differences: G first where there is one
COLUMNS = (
    "kind", "group", "run", "baseline", "measure", "value", "difference", "low", "high", "clear", "sequences", "objects",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Headings and cells; a cell is a text, or a number that each format writes its way."""

    title: str
    headings: list[str]  # measures stand here by their keys
    rows: list[list]  # str, or a Share, a Difference
    notes: list[str] = field(default_factory=list)
    spans: list[tuple[str, int]] | None = None  # headings above the headings: (text, columns), "" for none


@dataclass(frozen=True)
class Share:
    """A number in [0, 1], NaN for none."""

    value: float


@dataclass(frozen=True)
class Difference:
    """A difference with its interval and its mark."""

    record: Record


def render(comparison: Comparison, style: str = "markdown") -> str:
    """The tables of a comparison as text: "markdown", "latex" or "csv".

    First all runs with all measures; then the differences, to one baseline or of pairs; then one row per sequence,
    attribute or object if the comparison has them. A difference whose interval holds zero is marked "n.s.", one of
    fewer than 6 sequences "few", which notes below explain. LaTeX needs booktabs; names are escaped. CSV: a line per
    number with the columns kind, group, run, baseline, measure, value, difference, low, high, clear, sequences,
    objects. Raises InputError for another style. Source: ours.
    """
    styles = {"markdown": _markdown, "latex": _latex}
    if style == "csv":
        return _csv(comparison)
    if style not in styles:
        raise InputError(f"tables as {style!r} are unknown, there are {', '.join([*styles, 'csv'])}")
    return "\n\n".join(styles[style](table) for table in tables(comparison)) + "\n"


def tables(comparison: Comparison) -> list[Table]:
    """The tables that `render` prints."""
    found = [_scores(comparison)]
    if comparison.against:
        found.append(_pairs(comparison) if comparison.paired else _differences(comparison))
    if comparison.per:
        found.append(_groups(comparison))
    return found


def _scores(comparison):
    first = comparison.runs[0]
    measures = comparison.measures()
    rows = [
        [run.name, *(Share(comparison.find(measure, run.name).value) for measure in measures), _rate(run)]
        for run in comparison.runs
    ]
    count = comparison.find(measures[0], first.name)
    about = f"{first.dataset} {first.split}: {_count(count.sequences, 'sequence')}, {_count(count.objects, 'object')}"
    return Table(f"Scores on {about} (%).", ["run", *measures, RATE], rows)


def _differences(comparison):
    base, measures = comparison.against[0][1], _main(comparison)
    rows = [
        [run, *(Difference(comparison.find(measure, run, base)) for measure in measures)]
        for run, base in comparison.against
    ]
    return Table(f"Differences to {base} (points).", ["run", *measures], rows, _notes(rows))


def _pairs(comparison):
    measures, rows = _main(comparison), []
    for run, base in comparison.against:
        row = [f"{base}, {run}"]
        for measure in measures:
            found = comparison.find(measure, run, base)
            row += [Share(comparison.find(measure, base).value), Share(found.value), Difference(found)]
        rows.append(row)
    spans = [("", 1), *((measure, 3) for measure in measures)]
    headings = ["network", *["baseline", "+ TMRN", "difference"] * len(measures)]
    return Table("Networks without and with TMRN (%).", headings, rows, _notes(rows), spans)


def _groups(comparison):
    kind, measure = comparison.per, _main(comparison)[0] if comparison.per == "attribute" else "J&F"
    headings = [kind] + ["sequences"] * (kind == "attribute") + [run.name for run in comparison.runs]
    headings += [f"{run} - {base}" for run, base in comparison.against]
    rows = []
    for group in comparison.groups(kind):
        found = [comparison.find(measure, run.name, None, kind, group) for run in comparison.runs]
        row = [group] + [str(found[0].sequences)] * (kind == "attribute") + [Share(one.value) for one in found]
        row += [Difference(comparison.find(measure, run, base, kind, group)) for run, base in comparison.against]
        rows.append(row)
    notes = _notes(rows) + ([NOTES["attribute"]] if kind == "attribute" else [])
    return Table(f"{measure} per {kind} (%).", headings, rows, notes)


def _main(comparison):
    return [measure for measure in FIRST if measure in comparison.measures()]


def _notes(rows):
    marks = {cell.record.clear for row in rows for cell in row if isinstance(cell, Difference)} - {""}
    return ([NOTES["interval"]] if marks else []) + [NOTES[mark] for mark in ("no", "few") if mark in marks]


def _count(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rate(run):
    return "-" if run.frames_per_second is None else f"{run.frames_per_second:.1f}"


# --- the two styles


def _percent(number, sign=""):
    """0.1234 -> "12.3"; a difference that rounds to nothing is "0.0" without a sign."""
    text = f"{100 * number:{sign}.1f}"
    return "-" if number != number else text.lstrip("+-") if float(text) == 0 else text


def _markdown(table):
    def text(cell):
        if isinstance(cell, Share):
            return _percent(cell.value)
        if isinstance(cell, Difference):
            return _with_interval(cell.record, lambda number: _percent(number, "+"), " {}")
        return cell.replace("|", "\\|")

    headings = list(table.headings)
    if table.spans:  # Markdown has one line of headings
        above = [name for name, columns in table.spans for _ in range(columns)]
        headings = [f"{name} {heading}".strip() for name, heading in zip(above, headings, strict=True)]
    lines = [f"**{table.title}**", "", f"| {' | '.join(map(text, headings))} |"]
    lines.append("|---|" + "---:|" * (len(headings) - 1))
    lines += [f"| {' | '.join(map(text, row))} |" for row in table.rows]
    return "\n".join(lines + ([""] + [" ".join(table.notes)] if table.notes else []))


def _latex(table):
    def text(cell):
        if isinstance(cell, Share):
            return _percent(cell.value)
        if isinstance(cell, Difference):
            return _with_interval(cell.record, lambda number: f"${_percent(number, '+')}$", "\\textsuperscript{{{}}}")
        return escape(cell)

    lines = ["% \\usepackage{booktabs}", "\\begin{table}", "  \\centering"]
    lines.append(f"  \\caption{{{escape(' '.join([table.title, *table.notes]))}}}")
    lines += [f"  \\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}", "    \\toprule"]
    if table.spans:
        cells, rules, column = [], [], 1
        for name, width in table.spans:
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{_heading(name)}}}" if name else "")
            rules += [f"\\cmidrule(lr){{{column}-{column + width - 1}}}"] if name else []
            column += width
        lines += [f"    {' & '.join(cells)} \\\\", f"    {' '.join(rules)}"]
    lines += [f"    {' & '.join(map(_heading, table.headings))} \\\\", "    \\midrule"]
    lines += [f"    {' & '.join(map(text, row))} \\\\" for row in table.rows]
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}"])


def _with_interval(record, number, mark):
    """ "+1.2 [+0.3, +2.1]", with a mark behind it where chance may have made it."""
    text = number(record.difference)
    if record.low is not None:
        text += f" [{number(record.low)}, {number(record.high)}]"
    return text + (mark.format(MARKS[record.clear]) if record.clear in MARKS else "")


def _heading(name):
    """A heading in LaTeX; measures as papers write them."""
    measure, _, rest = name.partition("_")
    if measure not in ("J&F", "J", "F", "G"):
        return escape(name)
    letters = r"\&".join(rf"\mathcal{{{letter}}}" for letter in measure.split("&"))
    return f"${letters}$" + (f" {rest}" if rest else "")


def escape(text: str) -> str:
    """A text that LaTeX prints as it stands."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {"[": "{[}"}  # at the start of a row it would belong to the row break before it
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in comparison.runs:
        if run.frames_per_second is not None:
            writer.writerow(["all", "", run.name, "", "frames_per_second", _plain(run.frames_per_second)] + [""] * 6)
    for record in comparison.records:
        writer.writerow([_plain(getattr(record, column)) for column in COLUMNS])
    return text.getvalue()


def _plain(value):
    if isinstance(value, float):
        return "" if value != value else f"{value:.6f}"
    return "" if value is None else value
