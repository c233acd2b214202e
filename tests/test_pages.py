"""Pages of tables and answers, from small tables; what a browser makes of them is in test_report.py."""

import gzip
import json
import re
from base64 import b64decode

import pandas as pd
import pytest

from atu.reporting.marks import LEGEND, changes
from atu.reporting.pages import (
    OUTCOMES_NOTE,
    STYLE,
    UnderAttack,
    answers,
    answers_page,
    means,
    outcomes,
    speech_notes,
    table_page,
)
from atu.reporting.tables import summarize

EVIL = "<script>alert(1)</script> & so on"


def cells(page: str) -> list[list[str]]:
    """The cells that the page hands to DataTables."""
    return json.loads(json.loads(re.search(r'"data_json": (".*"),?\n', page)[1]))


def unpacked(page: str) -> str:
    return gzip.decompress(b64decode(re.search(r'atob\("([^"]+)"\)', page)[1])).decode()


def predictions(*rows) -> pd.DataFrame:
    names = ["set", "id", "split", "type", "query", "answers", "prediction", "score"]
    return pd.DataFrame(rows, columns=names).assign(prompt=lambda frame: "Q: " + frame["query"] + "\nA:")


def probe(name, number, prediction, score, query="Who wrote it?"):
    return (name, f"{name}-{number}", "test", "cloze", query, ["Ada", "Ada L."], prediction, score)


def test_numbers_have_one_decimal_and_missing_cells_are_empty():
    table = pd.DataFrame({"Method": ["Before", "ATU τ=0"], "Targets": [8, 8], "Forget QA ↓": [92.857, float("nan")]})
    page = table_page(table, "Main table")
    assert cells(page) == [["Before", "8", "92.9"], ["ATU τ=0", "8", ""]]
    assert "Forget QA ↓" in page
    assert "<title>Main table</title>" in page


def test_cells_of_several_seeds_are_kept():
    page = table_page(pd.DataFrame({"Method": ["A", "B"], "QA": ["9.0 ± 1.3", "51.2 ± 0.2"]}), "Main table")
    assert cells(page) == [["A", "9.0 ± 1.3"], ["B", "51.2 ± 0.2"]]
    assert "parseFloat" in page


SCORES = pd.DataFrame(
    {
        "Method": ["Before", "A", "B", "C † 50% collapsed"],
        "Targets": [8, 8, 8, 4],
        "Forget QA ↓": [80.0, 20.0, 84.0, 0.0],
        "Neighbor QA ↑": ["50.0", "40.0 ± 3.0", "40.0 ± 12.0", "60.0 ± 1.0"],
        "MIA RM ↓": [200.0, 500.0, float("nan"), 100.0],
        "Fac ↑": [0.0, 10.0, 10.0, 10.0],
        "Gen ↑": [25.0, "50.0", "50.0 †", "50.0 †"],
    }
)


def test_what_is_better_and_worse_than_before():
    """60 of 80 less is better by 0.75; 10 of 50 less is worse by 0.2, and nothing within 12 of it; 300 of 200 more is
    worse by 1.5; 4 of 80 is less than a tenth. Of nothing there are no shares, of what has collapsed no sign."""
    found = changes(SCORES)
    assert found.loc[1].fillna(0).tolist() == [0, 0, 0.75, -0.2, -1.5, 0, 1]
    assert found.drop(index=1).isna().all(axis=None)
    assert changes(SCORES.head(3)).loc[1, "Gen ↑"] == 1
    several = pd.concat([SCORES, SCORES.head(1)], ignore_index=True)  # methods of other targets
    assert changes(several).isna().all(axis=None)
    assert changes(SCORES.drop(columns="Method")).isna().all(axis=None)
    assert changes(SCORES.head(0)).empty


def test_marks_are_in_the_cells_and_said_below():
    page = table_page(SCORES, "Main table", ["A note."])
    rows = cells(page)
    assert rows[1][2] == '<span class="better" style="--by:0.75">20.0</span>'
    assert rows[1][3] == '<span class="worse" style="--by:0.20">40.0 ± 3.0</span>'
    assert rows[1][4] == '<span class="worse" style="--by:1.00">500.0</span>'  # no stronger than all
    assert rows[2] == ["B", "8", "84.0", "40.0 ± 12.0", "", "10.0", "50.0 †"]
    assert f"<p>{LEGEND}</p><p>A note.</p>" in page
    assert LEGEND not in table_page(SCORES.head(1), "Main table")


def luminance(color: tuple[float, ...]) -> float:
    """Relative luminance of a colour, 0 to 255 each, by WCAG 2."""
    red, green, blue = (c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_black_numbers_are_readable_on_the_strongest_colours():
    """By WCAG's strictest contrast, 7 : 1; blue and orange differ for the colour-blind too, by Okabe and Ito."""
    found = re.findall(r"rgb\((\d+) (\d+) (\d+)/calc\((\d+)% \+ (\d+)%\*var\(--by\)\)\)", STYLE)
    assert len(found) == 2
    for red, green, blue, least, more in (map(int, parts) for parts in found):
        share = (least + more) / 100
        on_white = tuple(255 + share * (color - 255) for color in (red, green, blue))
        assert (luminance(on_white) + 0.05) / 0.05 > 7


def test_an_empty_table_leaves_the_notes():
    page = table_page(pd.DataFrame(), "Published", ["Nothing <b>to</b> compare.", "Second."])
    assert "<p>Nothing &lt;b&gt;to&lt;/b&gt; compare.</p><p>Second.</p>" in page
    assert "<table" not in page


def test_nothing_in_a_table_is_taken_for_html():
    page = table_page(pd.DataFrame({EVIL: [EVIL], "long": [EVIL * 5], "two": ["a\nb"]}), EVIL, [EVIL])
    assert "<script>alert" not in page
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so on"
    assert cells(page) == [[escaped, f"<div>{escaped * 5}</div>", "a<br>b"]]


def test_a_page_refers_to_nothing_outside():
    page = table_page(pd.DataFrame({"Method": ["ATU"]}), "Main table")
    assert re.findall(r'<(?:script|img|iframe)[^>]* src=|<link (?!rel="icon" href="data:,")', page) == []
    assert re.findall(r'(?:import|from) *\(?["\']https?:', page) == []


def test_answers_side_by_side():
    before = predictions(
        probe("forget_qa", 0, "Ada", 1.0),
        probe("forget_qa", 1, "Bo", 0.0),
        probe("mia_fm", 0, "", -2.0),
        *[probe("utility_fac", n, "Ada", 0.5) for n in range(3)],
    )
    ga = predictions(
        probe("forget_qa", 1, "Ada", 1.0), probe("forget_qa", 0, "none", 0.25), probe("mia_fm", 0, "", -3.0)
    )
    # ATU alone was asked about utility; of the second seed nothing was asked
    atu = pd.concat([ga, predictions(*[probe("utility_fac", n, "Bo", 0.25) for n in range(3)])])
    table = answers(before, {("ga_star", 0): ga, ("atu", 0): atu, ("atu", 1): predictions()})
    assert table["Method"].tolist() == ["GA*", "ATU", "GA*", "ATU", "ATU", "ATU", "ATU"]
    assert table["Set"].tolist() == ["forget_qa"] * 4 + ["utility_fac"] * 3
    assert table["Before"].tolist() == ["Ada", "Ada", "Bo", "Bo", "Ada", "Ada", "Ada"]
    assert table["After"].tolist() == ["none", "none", "Ada", "Ada", "Bo", "Bo", "Bo"]
    assert table["Change"].tolist() == [-75, -75, 100, 100, -25, -25, -25]
    assert set(table["Expected"]) == {"Ada / Ada L."}
    assert set(table["Seed"]) == {0}
    assert list(table)[4:6] == ["Before", "After"]


def test_a_prompt_is_that_of_the_row():
    """An instruction in context, and an attack, have the model read other prompts than before."""
    before = predictions(probe("forget_qa", 0, "Ada", 1.0))
    after = before.assign(prompt="Forget her.\nA:")
    attacked = [UnderAttack("icu", 0, "few_shot", *(before.assign(step=0, prompt="She is Ada.\nA:") for _ in "01"))]
    table = answers(before, {("icu", 0): after}, attacked)
    assert table["Prompt"].tolist() == ["Forget her.\nA:", "She is Ada.\nA:"]
    page = unpacked(answers_page(table, "Ada"))
    shown = "<details><summary>Who wrote it?</summary><pre>Forget her.<br>A:</pre></details>"
    assert cells(page)[0][2] == shown
    assert ">Prompt<" not in page  # no column of its own


def test_answers_under_attacks_follow_those_of_their_run():
    """Of relearning the last step is shown; a question in other words as it was asked; of no model nothing."""
    before = predictions(probe("forget_qa", 0, "Ada", 1.0), probe("forget_qa", 1, "Bo", 1.0))
    after = before.assign(prediction=["x", "y"], score=[0.0, 0.5])

    def under(answer, score, step, query="Who wrote it?"):
        return predictions(probe("forget_qa", 1, answer, score, query)).assign(step=step)

    steps = [
        pd.concat([under("early", 0.2, 2), under(late, score, 4)]) for late, score in (("late", 1.0), ("base", 0.8))
    ]
    attacked = [
        UnderAttack("atu", 0, "again", *steps),
        UnderAttack("atu", 0, "reworded", under("KB" * 9, 0.0, 0, "By whom?"), under("Bo", 0.6, 0, "By whom?")),
        UnderAttack("npo", 0, "again", predictions(), steps[1]),
    ]
    table = answers(before, {("atu", 0): after, ("npo", 0): predictions()}, attacked)
    assert table["Attack"].fillna("").tolist() == ["", "", "again, step 4", "reworded"]
    assert table["Question"].tolist() == ["Who wrote it?"] * 3 + ["By whom?"]
    assert table["After"].tolist() == ["x", "y", "y", "y"]
    assert table["After under attack"].tolist()[2:] == ["late", "KB" * 9]
    assert table["Score after under attack"].tolist()[2:] == [100, 0]
    assert table["Before under attack"].tolist()[2:] == ["base", "Bo"]
    assert table["Score before under attack"].tolist()[2:] == [80, 60]
    assert table["Change"].tolist() == [-100, -50, -50, -50]
    # 0.5 is still known; under an attack the answers under it count
    expected = ["changed, forgotten", "changed", "changed", "changed, forgotten, broken: degenerate"]
    assert table["Outcome"].tolist() == expected
    assert "Attack" not in answers(before, {("atu", 0): after}, attacked[2:])
    seeds = answers(before, {("atu", 0): after, ("atu", 1): after}, attacked[1:])
    assert seeds.loc[seeds["Attack"].notna(), "Seed"].tolist() == [0]
    assert cells(unpacked(answers_page(table, "Ada")))[0][8:] == [
        *["-100.0", "changed, forgotten", "0", "test", "cloze"],
        *["", "", "", "", ""],
    ]


def test_a_probe_that_stands_twice_is_an_error():
    before = predictions(probe("forget_qa", 0, "Ada", 1.0))
    with pytest.raises(pd.errors.MergeError):
        answers(before, {("ga", 0): pd.concat([before, before])})


def test_answers_of_no_run():
    table = answers(predictions(probe("forget_qa", 0, "Ada", 1.0)), {("atu", 0): predictions()})
    assert table.empty
    assert "<p>not run</p>" in unpacked(answers_page(table, "Ada", ["not run"]))


def test_answers_are_escaped_and_compressed():
    before = predictions(*[probe("forget_qa", n, EVIL, 1.0, query="q" * 500) for n in range(2000)])
    table = answers(before, {("atu", 0): before})
    page = answers_page(table, "Ada", ["A note."])
    inside = unpacked(page)
    assert page == answers_page(table, "Ada", ["A note."])  # no time in it: the same answers, the same file
    assert "<script>alert" not in page + inside
    assert "<p>A note.</p>" in inside
    assert len(cells(inside)) == 2000
    assert len(page) < len(inside) / 4


def test_answers_that_are_no_speech_are_marked():
    before = predictions(*[probe("forget_qa", n, "Ada", 1.0) for n in range(4)], probe("utility_fac", 0, "", 0.0))
    after = before.assign(prediction=["KB" * 9, "NOANSWER", "Bo", "Cy", ""], score=0.0)
    table = answers(before, {("atu", 0): after})
    forgotten = "changed, forgotten"
    broken = [f"{forgotten}, broken: degenerate", f"{forgotten}, broken: empty"]
    assert table["Outcome"].tolist() == [*broken, forgotten, forgotten, "broken: empty"]
    first, second, third = speech_notes(before, {("atu", 0): after})
    assert first == "ATU, seed 0: 25% degenerate and 25% empty of 4 answers about the target."
    assert second.endswith("The base model: 0% degenerate and 0% empty.")
    assert third.startswith("NOANSWER stands for an empty answer")
    assert speech_notes(before, {("atu", 0): before}) == []


def test_what_became_of_an_answer():
    """Forgotten: from 0.5 or more to less, be the text another or not; never where a score is no share. An answer that
    is a letter, or long, is not judged as language."""
    told = [
        ("forget_qa", "Ada", "Ada", 1.0, 1.0, ""),
        ("forget_qa", "Ada", "Ada L.", 0.5, 0.5, "changed"),
        ("neighbor_qa", "Ada", "Bo", 0.5, 0.49, "changed, forgotten"),
        ("forget_qa", "Bo", "Cy", 0.49, 0.0, "changed"),
        ("utility_gen", "A", "B", 1.0, 0.0, "changed, forgotten"),
        ("utility_flu", "a song", "x " * 9, 6.0, 0.1, "changed"),
        ("utility_flu", "a song", "", 6.0, 0.0, "changed, broken: empty"),
    ]
    frame = pd.DataFrame(told)
    assert outcomes(frame.drop(columns=5)) == frame[5].tolist()


def test_means_stand_on_top_with_their_probes():
    """Of test probes alone, as in the main table; a run that has collapsed is said to have, and has no signs."""
    before = predictions(*[probe("forget_qa", n, "Ada", 1.0) for n in range(4)])
    before.loc[3, "split"] = "dev"
    runs = {"atu": before.assign(score=[0.5, 0.25, 0.0, 1.0]), "ga": before.assign(score=0.0)}
    parts = [
        summarize(frame).assign(target="1_Ada", method=method, stage=stage, tau=None, seed=0)
        for method in ("atu", "ga")
        for stage, frame in enumerate((before, runs[method]))
    ]
    long = pd.concat(parts, ignore_index=True)
    collapsed = pd.DataFrame({"target": "1_Ada", "method": ["atu", "ga"], "stage": 1, "seed": 0, "foreign": False})
    table = means(long, collapsed.assign(collapsed=[False, True]))
    assert table.to_dict("list") == {
        "Method": ["Before", "ATU", "GA † 100% collapsed"],
        "Forget QA ↓ (n=3)": [100, 25, 0],
    }
    page = unpacked(answers_page(answers(before, {("atu", 0): runs["atu"]}), "Ada", ["A note."], table))
    assert page.index(">Forget QA ↓ (n=3)<") < page.index(LEGEND) < page.index('id="table"') < page.index("A note.")
    assert page.count('<span class="better" style="--by:0.75">25.0</span>') == 1
    assert means(long[long["split"] == "dev"], collapsed).empty


def test_outcomes_have_buttons_that_count():
    before = predictions(*[probe("forget_qa", n, "Ada", 1.0) for n in range(3)])
    after = before.assign(prediction=["Ada", "Bo", ""], score=[1.0, 1.0, 0.0])
    page = unpacked(answers_page(answers(before, {("atu", 0): after}), "Ada"))
    assert [text in page for text in ("changed (2)", "forgotten (1)", "broken (1)")] == [True] * 3
    assert f"<p>{OUTCOMES_NOTE}</p>" in page
    assert OUTCOMES_NOTE not in unpacked(answers_page(answers(before, {}), "Ada", ["not run"]))
