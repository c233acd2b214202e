"""Pages that open from disk: tables to sort and filter, and a model's answers before and after unlearning."""

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
from atu.data.benchmark import TEST
from atu.data.metrics import NO_ANSWER, PERCENT, is_degenerate, is_empty
from atu.data.probe_sets import PROBE_SETS
from atu.evaluation.collapse import without_speech
from atu.reporting.marks import LEGEND, changes
from atu.reporting.tables import ABOUT_TARGET, HEADINGS, KNOWN_RECALL, main_table, mark_damaged

KEYS = ["set", "id"]
BUNDLE = Path(itables.__file__).parent / "html/dt_bundle.js"  # DataTables, embedded so that nothing is fetched
# Columns of answers under an attack.
ATTACKED = {
    "attack": "Attack",
    "prediction_before": "Before under attack",
    "score_before": "Score before under attack",
    "prediction_attacked": "After under attack",
    "score_attacked": "Score after under attack",
}
# What can happen to an answer: words of the column Outcome, by which buttons filter.
OUTCOMES = {
    "changed": "the text after is another one than before",
    "forgotten": f"a score of at least {PERCENT * KNOWN_RECALL:g} % before, and less after",
    "broken": "the answer after is empty or, about the target, degenerate",
}
OUTCOMES_NOTE = (
    f"Outcome: {'; '.join(f'{word}: {meaning}' for word, meaning in OUTCOMES.items())}. A click on a question shows "
    "the prompt, as the model after unlearning read it."
)
LISTED = 30  # a column with at most this many different texts is filtered by a list of check boxes
LONG = 80  # characters; longer texts get a wide column, and a box that scrolls
# A table scrolls in its own box, and its first column stays. Signs precede numbers, so that numbers stay aligned.
STYLE = """
body{font:13px sans-serif;margin:1em}h1{font-size:1.3em}figure{margin:0}figure svg{max-width:100%;height:auto}
.dt-layout-table>div,.box{overflow-x:auto;position:relative}
:is(#table,.plain) :is(th,td):first-child{position:sticky;left:0;z-index:1;background:#fff;box-shadow:inset -1px 0 #ccc}
.plain{border-collapse:collapse}.plain :is(th,td){padding:.3em .5em;border-bottom:1px solid #ddd}
.plain :is(th,td):not(:first-child){text-align:right}.plain :is(th,td):first-child{text-align:left}
:is(#table,.plain) th{vertical-align:bottom}:is(#table,.plain) td{vertical-align:top}
#table .dt-column-header{flex-wrap:wrap}#table .dt-column-title{flex-basis:100%}
td.text{min-width:13em;overflow-wrap:anywhere}td :is(div,pre){max-height:9em;overflow-y:auto}
summary{cursor:pointer}pre{white-space:pre-wrap;background:#f4f4f4;padding:.4em}
.better,.worse{padding-left:.3em;border-radius:.2em;white-space:nowrap}
.better{background:rgb(0 114 178/calc(10% + 35%*var(--by)))}.better::before{content:"✓ "}
.worse{background:rgb(230 159 0/calc(15% + 50%*var(--by)))}.worse::before{content:"! "}
"""
# The browser unpacks the compressed page and replaces this one with it.
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
# Cells such as "51.2 ± 1.3" are sorted by their first number; empty ones come first.
BY_NUMBER = """function (data, type) {
    if (type === "display") return data;
    const text = data.replace(/<[^>]*>/g, "");
    if (type === "filter") return text;
    const number = parseFloat(text);
    return Number.isNaN(number) ? -Number.MAX_VALUE : number;
}"""

# A question with a prompt folded below it is sorted and searched by the question alone.
BY_QUESTION = """function (data, type) {
    return type === "display" ? data : data.replace(/<pre>.*<\\/pre>|<[^>]*>/gs, "");
}"""
# A button shows only rows with its word in a column; pressed again, it shows all rows.
PRESS = """function (event, table, node) {
    const column = table.column(PLACE), pressed = column.search() !== "WORD";
    table.buttons().active(false).nodes().attr("aria-pressed", false);
    this.active(pressed).nodes().attr("aria-pressed", pressed);
    column.search(pressed ? "WORD" : "").draw();
}"""


def table_page(table: pd.DataFrame, title: str, notes: Iterable[str] = ()) -> str:
    """A page with a table that can be sorted and filtered, by column and as a whole, and notes below it.

    Numbers with a fraction have one decimal; missing cells are empty. Numbers better or worse than in the row Before
    are marked (:func:`atu.reporting.marks.changes`). Nothing in the table or the notes is read as HTML.
    """
    body = f"<h1>{escape(title)}</h1>" + (interactive(table) if len(table) else "")
    return document(title, body + paragraphs([*legend(table), *notes]))


@dataclass(frozen=True)
class UnderAttack:
    """The answers under an attack.

    Attributes:
        method, seed: the method and seed of the run.
        after, before: predictions of the run's model and of the base model, with a column step.
    """

    method: str
    seed: int
    attack: str
    after: pd.DataFrame
    before: pd.DataFrame

    def answered(self) -> tuple[str, pd.DataFrame]:
        """The attack's name, with its last step if it has steps, and the answers at that step.

        Answers have one row per probe: set, id, query, prompt, prediction_before, score_before, prediction_attacked,
        score_attacked.
        """
        step = self.after["step"].max()
        after, before = (frame[frame["step"] == step] for frame in (self.after, self.before))
        both = before[[*KEYS, "prediction", "score"]].merge(
            after[[*KEYS, "query", "prompt", "prediction", "score"]],
            on=KEYS,
            suffixes=("_before", "_attacked"),
            validate="one_to_one",
        )
        return f"{self.attack}, step {step}" if step else self.attack, both


def answers(
    before: pd.DataFrame, after: Mapping[tuple[str, int], pd.DataFrame], attacked: Iterable[UnderAttack] = ()
) -> pd.DataFrame:
    """The answers before and after unlearning, side by side.

    Args:
        before: predictions of the base model, from :func:`atu.evaluation.evaluate.evaluate`.
        after: predictions of each run, by method and seed; those of stages that were not run are empty and skipped.
        attacked: answers of these runs under attacks.

    Returns:
        One row for each probe and run that was asked before and after, with a probe's runs in adjacent rows: Set,
        Method, Question, Expected, Before, After, Score before, Score after, Change, Outcome (words of OUTCOMES, and
        how an answer is broken), Seed, Split, Type, Prompt (as the run's model read it). Scores are scaled as in the
        tables. Texts without answers, of which only the likelihood is measured, are left out.
        If there are attacks, each attack that asks the probe adds a row, with its own question, prompt and outcome, and
        the columns Attack, Before under attack, Score before under attack, After under attack, Score after under
        attack.
    """
    asked = before[before["set"].map(lambda name: PROBE_SETS[name].ask != "text")]
    asked = asked.assign(place=range(len(asked)), expected=asked["answers"].map(" / ".join))
    columns = [*KEYS, "place", "split", "type", "query", "expected", "prediction", "score"]
    told = ["set", "prediction", "prediction_after", "score", "score_after"]
    told_under = ["set", "prediction_before", "prediction_attacked", "score_before", "score_attacked"]
    attacked = [one for one in attacked if len(one.after)]
    rows = []
    for (method, seed), predictions in after.items():
        if not len(predictions):
            continue
        both = asked[columns].merge(
            predictions[[*KEYS, "prompt", "prediction", "score"]],
            on=KEYS,
            suffixes=(None, "_after"),
            validate="one_to_one",
        )
        both = both.assign(method=display_name(method), seed=seed)
        rows.append(both.assign(outcome=outcomes(both[told])))
        for one in attacked:
            if (one.method, one.seed) == (method, seed):
                name, answered = one.answered()
                under = both.drop(columns=["query", "prompt"]).merge(answered, on=KEYS, validate="one_to_one")
                rows.append(under.assign(attack=name, outcome=outcomes(under[told_under])))
    names = {
        "set": "Set",
        "method": "Method",
        "query": "Question",
        "expected": "Expected",
        "prediction": "Before",
        "prediction_after": "After",
        "score": "Score before",
        "score_after": "Score after",
        "outcome": "Outcome",
        "seed": "Seed",
        "split": "Split",
        "type": "Type",
        "prompt": "Prompt",
    }
    if not rows:
        return pd.DataFrame(columns=[*names.values(), "Change"])
    names |= ATTACKED if attacked else {}
    table = pd.concat(rows).sort_values("place", kind="stable").reindex(columns=list(names)).rename(columns=names)
    scales = table["Set"].map(lambda name: PROBE_SETS[name].scoring.scale)
    for column in (name for name in names.values() if name.startswith("Score")):
        table[column] *= scales
    table.insert(list(table).index("Score after") + 1, "Change", table["Score after"] - table["Score before"])
    return table.reset_index(drop=True)


def outcomes(told: pd.DataFrame) -> list[str]:
    """The outcome of each answer, in words of OUTCOMES; "broken" comes last and says how.

    Args:
        told: set, answer before, answer after, score before and score after (0 to 1 if it is a share).
    """
    found = []
    for name, before, after, score_before, score_after in told.itertuples(index=False):
        known = PROBE_SETS[name].scoring.percent and score_before >= KNOWN_RECALL
        words = ["changed"] * (before != after) + ["forgotten"] * (known and score_after < KNOWN_RECALL)
        broken = remark_on(name, after)
        found.append(", ".join([*words, f"broken: {broken}"] if broken else words))
    return found


def remark_on(name: str, answer: str) -> str:
    """How an answer to a probe of a set is broken: "empty", "degenerate", or "" if it is not."""
    if PROBE_SETS[name].ask == "generate" and is_empty(answer):
        return "empty"
    return "degenerate" if name in ABOUT_TARGET and is_degenerate(answer) else ""


def speech_notes(before: pd.DataFrame, after: Mapping[tuple[str, int], pd.DataFrame]) -> list[str]:
    """Sentences about broken answers: each run's shares, if there are any, and the meaning of NOANSWER.

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


def means(long: pd.DataFrame, collapsed: pd.DataFrame) -> pd.DataFrame:
    """The main table of one target, with the number of probes in its headings; empty if there are no test probes.

    Args:
        long, collapsed: from :func:`atu.reporting.tables.collect` and :func:`atu.reporting.tables.find_collapsed`,
            for the target's runs.
    """
    asked = long[long["split"] == TEST]
    if asked.empty:
        return asked
    probes = asked.groupby("metric")["n"].max()
    counted = {HEADINGS[name]: f"{HEADINGS[name]} (n={n})" for name, n in probes.items() if name in HEADINGS}
    return mark_damaged(main_table(long, [], collapsed)).drop(columns="Targets").rename(columns=counted)


def answers_page(
    table: pd.DataFrame, title: str, notes: Iterable[str] = (), summary: pd.DataFrame | None = None
) -> str:
    """A page with the table of :func:`answers`, compressed, since rows repeat questions and answers for every run.

    Args:
        summary: from :func:`means`, shown at the top.
    """
    body = f"<h1>{escape(title)}</h1>"
    if summary is not None and len(summary):
        body += plain(summary) + paragraphs(["Means over test probes.", *legend(summary)])
    if len(table):
        body += interactive(table, fold={"Question": "Prompt"}, sought={"Outcome": OUTCOMES})
        notes = [OUTCOMES_NOTE, *notes]
    page = document(title, body + paragraphs(notes))
    pressed = b64encode(gzip.compress(page.encode(), mtime=0)).decode()
    return document(title, UNPACK.replace("PRESSED", pressed))


def html_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table's names and cells as HTML, with marks."""
    change = changes(table)
    return pd.DataFrame(
        {
            escape(str(name)): list(map(marked, values.map(as_text).map(as_html), change[name]))
            for name, values in table.items()
        }
    )


def plain(table: pd.DataFrame) -> str:
    """The plain table, in a box that scrolls."""
    html = html_cells(table).to_html(index=False, escape=False, border=0, justify="unset", classes="plain")
    return f'<div class="box">{html}</div>'


def interactive(
    table: pd.DataFrame, fold: Mapping[str, str] | None = None, sought: Mapping[str, Iterable[str]] | None = None
) -> str:
    """The table with everything needed to sort and filter it.

    Args:
        fold: maps a column to a second one, whose text is folded below the first and shown by a click on it.
        sought: words by column; each gets a button that shows only the rows with that word.
    """
    fold, sought = fold or {}, sought or {}
    shown = table.drop(columns=[*fold.values()])
    cells, defs, buttons = html_cells(shown), [], []
    for name, below in fold.items():
        pairs = zip(cells[name], table[below], strict=True)
        cells[name] = [
            f"<details><summary>{cell}</summary><pre>{in_lines(text)}</pre></details>" for cell, text in pairs
        ]
    for place, (name, values) in enumerate(shown.items()):
        texts = values.map(as_text)
        there = texts[texts != ""]
        numeric = len(there) > 0 and there.str.match(r"-?\d+(\.\d+)?( |$)").all()
        few = not numeric and texts.nunique() <= LISTED
        column = {"targets": place, "columnControl": [["searchList"] if few else "searchDropdown"]}
        if numeric:
            column |= {"render": itables.JavascriptFunction(BY_NUMBER), "className": "dt-right"}
        elif name in fold:
            column |= {"render": itables.JavascriptFunction(BY_QUESTION), "className": "text"}
        elif texts.str.len().max() > LONG:
            column["className"] = "text"
        defs.append(column)
        for word in sought.get(name, ()):
            press = PRESS.replace("PLACE", str(place)).replace("WORD", word)
            count = texts.str.contains(word, regex=False).sum()
            buttons.append({"text": f"{word} ({count})", "action": itables.JavascriptFunction(press)})
    layout = {"topStart": "info", "topEnd": "search", "bottomStart": "pageLength", "bottomEnd": "paging"}
    return generate_init_offline_itables_html(BUNDLE) + itables.to_html_datatable(
        cells,
        connected=False,
        allow_html=True,  # every cell has been escaped, so that line breaks can be kept
        table_id="table",
        showIndex=False,
        maxBytes=0,
        maxColumns=0,
        columnDefs=defs,
        layout=layout | ({"top2Start": {"buttons": buttons}} if buttons else {}),
        pageLength=50,
        lengthMenu=[10, 50, 200],
        autoWidth=False,
        text_in_header_can_be_selected=False,  # so that a click on the name sorts
        classes="display compact",
        style="width:auto;margin:0",
    )


def as_text(value: object) -> str:
    """A cell as text for readers."""
    if pd.isna(value):
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def as_html(text: str) -> str:
    """A text as HTML (:func:`in_lines`); long texts are put into a box."""
    return f"<div>{in_lines(text)}</div>" if len(text) > LONG else in_lines(text)


def in_lines(text: str) -> str:
    """A text with its line breaks and with HTML escaped."""
    return escape(text).replace("\n", "<br>")


def marked(cell: str, change: float) -> str:
    """A cell coloured by its change, from :func:`atu.reporting.marks.changes`."""
    if pd.isna(change):
        return cell
    return f'<span class="{"better" if change > 0 else "worse"}" style="--by:{min(1, abs(change)):.2f}">{cell}</span>'


def legend(table: pd.DataFrame) -> list[str]:
    """The meaning of the marks; empty if the table has none."""
    return [LEGEND] if changes(table).notna().any(axis=None) else []


def paragraphs(notes: Iterable[str]) -> str:
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def document(title: str, body: str) -> str:
    """A whole page, as wide as the screen, with an empty icon so that browsers do not request one."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += f'<link rel="icon" href="data:,"><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
