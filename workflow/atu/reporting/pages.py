"""Pages that open from disk: tables to sort and to filter, and what a model answered before and after."""

import gzip
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import itables
import pandas as pd
from itables.javascript import generate_init_offline_itables_html

from atu.common.names import display_name
from atu.data.metrics import NO_ANSWER, is_degenerate, is_empty
from atu.data.probe_sets import PROBE_SETS
from atu.evaluation.collapse import without_speech
from atu.reporting.marks import LEGEND, changes
from atu.reporting.tables import ABOUT_TARGET

KEYS = ["set", "id"]
BUNDLE = Path(itables.__file__).parent / "html/dt_bundle.js"  # DataTables itself, so that nothing is fetched
# Columns of answers under an attack.
ATTACKED = {
    "attack": "Attack",
    "prediction_before": "Before under attack",
    "score_before": "Score before under attack",
    "prediction_attacked": "After under attack",
    "score_attacked": "Score after under attack",
}
LISTED = 30  # a column of at most so many different texts is filtered by a list to tick
LONG = 80  # characters; longer texts get a wide column, and a box that scrolls
# A table scrolls in a box of its own, beside its first column. Signs stand before numbers, which stay in line.
STYLE = """
body{font:13px sans-serif;margin:1em}h1{font-size:1.3em}
.dt-layout-table>div{overflow-x:auto;position:relative}
#table :is(th,td):first-child{position:sticky;left:0;z-index:1;background:#fff;box-shadow:inset -1px 0 #ccc}
#table th{vertical-align:bottom}#table td{vertical-align:top}
#table .dt-column-header{flex-wrap:wrap}#table .dt-column-title{flex-basis:100%}
td.text{min-width:13em}td div{max-height:9em;overflow-y:auto;overflow-wrap:anywhere}
.better,.worse{padding-left:.3em;border-radius:.2em;white-space:nowrap}
.better{background:rgb(0 114 178/calc(10% + 35%*var(--by)))}.better::before{content:"✓ "}
.worse{background:rgb(230 159 0/calc(15% + 50%*var(--by)))}.worse::before{content:"! "}
"""
# What was pressed is unpacked by the browser and takes the page's place.
UNPACK = """<script>
(async () => {
    const bytes = Uint8Array.from(atob("PRESSED"), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const page = await new Response(stream).text();
    document.open();
    document.write(page);
    document.close();
})();
</script><noscript>This page needs JavaScript.</noscript>"""
# Cells such as "51.2 ± 1.3" are in the order of their first number; empty ones come first.
BY_NUMBER = """function (data, type) {
    if (type === "display") return data;
    const text = data.replace(/<[^>]*>/g, "");
    if (type === "filter") return text;
    const number = parseFloat(text);
    return Number.isNaN(number) ? -Number.MAX_VALUE : number;
}"""


def table_page(table: pd.DataFrame, title: str, notes: Iterable[str] = ()) -> str:
    """A page with a table that can be sorted and filtered, by column and as a whole, and notes below it.

    Numbers with a fraction have one decimal; missing cells are empty. What is better or worse than in the row Before is
    marked (:func:`atu.reporting.marks.changes`). Nothing in the table or the notes is taken for HTML.
    """
    body = f"<h1>{escape(title)}</h1>" + (interactive(table) if len(table) else "")
    return document(title, body + paragraphs([*legend(table), *notes]))


@dataclass(frozen=True)
class UnderAttack:
    """What was answered under an attack.

    Attributes:
        method, seed: of the run.
        after, before: predictions of its model and of the base model, with a column step.
    """

    method: str
    seed: int
    attack: str
    after: pd.DataFrame
    before: pd.DataFrame

    def answered(self) -> tuple[str, pd.DataFrame]:
        """How it is called, with its last step if it has some, and what was answered then: set, id, query,
        prediction_before, score_before, prediction_attacked, score_attacked; a row a probe."""
        step = self.after["step"].max()
        after, before = (frame[frame["step"] == step] for frame in (self.after, self.before))
        both = before[[*KEYS, "prediction", "score"]].merge(
            after[[*KEYS, "query", "prediction", "score"]],
            on=KEYS,
            suffixes=("_before", "_attacked"),
            validate="one_to_one",
        )
        return f"{self.attack}, step {step}" if step else self.attack, both


def answers(
    before: pd.DataFrame, after: Mapping[tuple[str, int], pd.DataFrame], attacked: Iterable[UnderAttack] = ()
) -> pd.DataFrame:
    """What was answered before and after unlearning, side by side.

    Args:
        before: predictions of the base model, as :func:`atu.evaluation.evaluate.evaluate` returns them.
        after: those of each run, by method and seed; empty ones, of stages that were not run, have no rows.
        attacked: answers of these runs under attacks.

    Returns:
        One row a probe and run that were asked both before and after, a probe's runs one below the other: Set,
        Split, Type, Question, Expected, Before, Score before, Method, Seed, After, Score after, Change. Scores are
        scaled as in the tables. Texts whose likelihood alone is measured have no answer and are left out.
        If anything is attacked, a further row for each attack that asks the probe follows, with the question as it
        asks it, and the columns Attack, Before under attack, Score before under attack, After under attack, Score after
        under attack. Where any answer after is empty or, about the target, degenerate, a column Remark says of which.
    """
    asked = before[before["set"].map(lambda name: PROBE_SETS[name].ask != "text")]
    asked = asked.assign(place=range(len(asked)), expected=asked["answers"].map(" / ".join))
    columns = [*KEYS, "place", "split", "type", "query", "expected", "prediction", "score"]
    attacked = [one for one in attacked if len(one.after)]
    rows = []
    for (method, seed), predictions in after.items():
        if not len(predictions):
            continue
        both = asked[columns].merge(
            predictions[[*KEYS, "prediction", "score"]], on=KEYS, suffixes=(None, "_after"), validate="one_to_one"
        )
        both = both.assign(method=display_name(method), seed=seed)
        rows.append(both)
        for one in attacked:
            if (one.method, one.seed) == (method, seed):
                name, answered = one.answered()
                under = both.drop(columns="query").merge(answered, on=KEYS, validate="one_to_one")
                rows.append(under.assign(attack=name))
    names = {
        "set": "Set",
        "split": "Split",
        "type": "Type",
        "query": "Question",
        "expected": "Expected",
        "prediction": "Before",
        "score": "Score before",
        "method": "Method",
        "seed": "Seed",
        "prediction_after": "After",
        "score_after": "Score after",
    }
    if not rows:
        return pd.DataFrame(columns=[*names.values(), "Change"])
    names |= ATTACKED if attacked else {}
    table = pd.concat(rows).sort_values("place", kind="stable").reindex(columns=list(names)).rename(columns=names)
    scales = table["Set"].map(lambda name: PROBE_SETS[name].scoring.scale)
    for column in (name for name in names.values() if name.startswith("Score")):
        table[column] *= scales
    table.insert(list(table).index("Score after") + 1, "Change", table["Score after"] - table["Score before"])
    table = table.reset_index(drop=True)
    answer = table[ATTACKED["prediction_attacked"]].fillna(table["After"]) if attacked else table["After"]
    said = list(map(remark_on, table["Set"], answer))
    return table.assign(Remark=said) if any(said) else table


def remark_on(name: str, answer: str) -> str:
    """Of an answer to a probe of a set: empty, degenerate, or nothing."""
    if PROBE_SETS[name].ask == "generate" and is_empty(answer):
        return "empty"
    return "degenerate" if name in ABOUT_TARGET and is_degenerate(answer) else ""


def speech_notes(before: pd.DataFrame, after: Mapping[tuple[str, int], pd.DataFrame]) -> list[str]:
    """Sentences about answers that are no speech: of each run their share, where there are any, and what NOANSWER is.

    Args:
        before, after: as for :func:`answers`.
    """
    said = []
    for (method, seed), predictions in after.items():
        about = predictions[predictions["set"].isin(ABOUT_TARGET)]
        found = {name: share for name, share in without_speech(about).items() if share > 0}
        if found:
            shares = " and ".join(f"{share:.0%} {name}" for name, share in found.items())
            said.append(f"{display_name(method)}, seed {seed}: {shares} of {len(about)} answers about the target.")
    if said:
        said.append(
            "Degenerate: no language at all, such as one word, phrase or pattern over and over. The base model: "
            + " and ".join(
                f"{share:.0%} {name}"
                for name, share in without_speech(before[before["set"].isin(ABOUT_TARGET)]).items()
            )
            + "."
        )
    if any((frame["prediction"] == NO_ANSWER).any() for frame in (before, *after.values())):
        said.append(f"{NO_ANSWER} stands for an empty answer, and is scored as that word, as RWKU does.")
    return said


def answers_page(table: pd.DataFrame, title: str, notes: Iterable[str] = ()) -> str:
    """A page of :func:`answers`, compressed, since every run repeats the questions and the answers before."""
    page = table_page(table, title, notes)
    pressed = b64encode(gzip.compress(page.encode(), mtime=0)).decode()
    return document(title, UNPACK.replace("PRESSED", pressed))


def interactive(table: pd.DataFrame) -> str:
    """The table and all that it needs to be sorted and filtered."""
    cells, defs, change = pd.DataFrame(index=table.index), [], changes(table)
    for place, (name, values) in enumerate(table.items()):
        texts = values.map(as_text)
        shown = texts[texts != ""]
        numeric = len(shown) > 0 and shown.str.match(r"-?\d+(\.\d+)?( |$)").all()
        few = not numeric and texts.nunique() <= LISTED
        column = {"targets": place, "columnControl": [["searchList"] if few else "searchDropdown"]}
        if numeric:
            column |= {"render": itables.JavascriptFunction(BY_NUMBER), "className": "dt-right"}
        elif texts.str.len().max() > LONG:
            column["className"] = "text"
        defs.append(column)
        cells[escape(str(name))] = list(map(marked, texts.map(as_html), change[name]))
    return generate_init_offline_itables_html(BUNDLE) + itables.to_html_datatable(
        cells,
        connected=False,
        allow_html=True,  # every cell has been escaped, so that line breaks can be kept
        table_id="table",
        showIndex=False,
        maxBytes=0,
        maxColumns=0,
        columnDefs=defs,
        layout={"topStart": "info", "topEnd": "search", "bottomStart": "pageLength", "bottomEnd": "paging"},
        pageLength=50,
        lengthMenu=[10, 50, 200],
        autoWidth=False,
        text_in_header_can_be_selected=False,  # so that a click on the name sorts
        classes="display compact",
        style="width:auto;margin:0",
    )


def as_text(value: object) -> str:
    """A cell as it is read."""
    if pd.isna(value):
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def as_html(text: str) -> str:
    """A text with its line breaks, and nothing in it taken for HTML; a long one in a box."""
    shown = escape(text).replace("\n", "<br>")
    return f"<div>{shown}</div>" if len(text) > LONG else shown


def marked(cell: str, change: float) -> str:
    """A cell in the colour of a change, from :func:`atu.reporting.marks.changes`."""
    if pd.isna(change):
        return cell
    return f'<span class="{"better" if change > 0 else "worse"}" style="--by:{min(1, abs(change)):.2f}">{cell}</span>'


def legend(table: pd.DataFrame) -> list[str]:
    """What marks mean, where a table has any."""
    return [LEGEND] if changes(table).notna().any(axis=None) else []


def paragraphs(notes: Iterable[str]) -> str:
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def document(title: str, body: str) -> str:
    """A whole page, as wide as the screen. The empty icon keeps a browser from asking a server for one."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += f'<link rel="icon" href="data:,"><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
