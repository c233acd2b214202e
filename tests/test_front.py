"""The first page: its sentences, worked out by hand, and what it does not say."""

import pandas as pd
import pytest

from atu.reporting.front import findings, front_page
from atu.reporting.marks import LEGEND
from atu.reporting.tables import COLLAPSED, COLUMNS, scope

SETS = ("forget_qa", "neighbor_qa")
KNOWN = "The base model scores at least 50 % on Forget QA and Neighbor QA."
WARNING = "A model that has collapsed only looks like one that has forgotten."


def rows(method: str, *stages: dict[str, float], target: str = "1_Ada", tau: bool = True, seed: int = 0, n: int = 4):
    """The long table of one run: by stage, of which 0 is the base model, the value of each metric."""
    made = [
        ("llm", "demo", target, method, stage, 0.5 / stage if stage and tau else None, "test", name, value, n, seed)
        for stage, values in enumerate(stages)
        for name, value in values.items()
    ]
    return pd.DataFrame(made, columns=COLUMNS)


def qa(forget: float, neighbour: float) -> dict[str, float]:
    return dict(zip(SETS, (forget, neighbour), strict=True))


def judged(long: pd.DataFrame, *fallen: tuple, foreign: bool = False) -> pd.DataFrame:
    """Which stages have collapsed: those of some (target, method, stage), and all others have not."""
    keys = ["target", "method", "seed", "stage"]
    stages = long.loc[long["stage"] > 0, keys].drop_duplicates()
    more = pd.DataFrame([(target, method, 0, stage) for target, method, stage in fallen], columns=keys)
    stages = pd.concat([stages, more]).drop_duplicates().astype({"seed": int, "stage": int})
    gone = [key in fallen for key in stages[["target", "method", "stage"]].itertuples(index=False, name=None)]
    return stages.assign(collapsed=gone, why="", degenerate=0.0, empty=0.0, foreign=foreign)[COLLAPSED]


def test_one_method():
    """20 of 80 are left, 45 of 60 kept; the mean of two seeds, of which the second keeps 15 more."""
    long = pd.concat(
        [rows("atu", qa(80, 60), qa(40, 60), qa(20, kept), seed=seed) for seed, kept in enumerate((30, 60))]
    )
    assert findings(long, [], judged(long)) == [
        "After ATU τ=0.25, 25% of Forget QA is left (20.0 of 80.0) and 75% of Neighbor QA is kept (45.0 of 60.0).",
        "No collapse was found after any stage (of 2).",
        KNOWN,
    ]
    assert scope(long, []) == "Means over 1 target; test probes: 4 of Forget QA and 4 of Neighbor QA."


def test_a_stage_that_has_collapsed_is_not_what_a_method_keeps():
    """Nor one at which a run of one target has, or that was not run; before it something may be kept."""
    both = [rows("atu", qa(80, 60), qa(40, 30), qa(0, 0), target=target) for target in ("1_Ada", "2_Bo")]
    long = pd.concat(both)
    kept, fallen, _ = findings(long, [], judged(long, ("2_Bo", "atu", 2)))
    assert kept.startswith("After ATU τ=0.5, 50% of Forget QA is left (40.0 of 80.0) and 50% of Neighbor QA is kept")
    assert fallen == f"Collapsed: ATU τ=0.25 (50%). {WARNING}"
    short = long[long["stage"] < 2]
    assert findings(short, [], judged(short, ("1_Ada", "atu", 2), ("2_Bo", "atu", 2)))[:2] == [
        kept,
        f"Collapsed: ATU stage 2 (100%). {WARNING}",
    ]


def test_where_everything_has_collapsed_nothing_is_kept():
    long = rows("atu", qa(80, 60), qa(0, 0))
    said = [f"Collapsed: every run, after every stage. {WARNING}", KNOWN]
    assert findings(long, [], judged(long, ("1_Ada", "atu", 1))) == said
    many = pd.concat([long, *(rows(name, qa(80, 60), qa(0, 0)) for name in ("ga", "npo"))])
    assert findings(many, [], judged(many, *(("1_Ada", name, 1) for name in ("atu", "ga", "npo")))) == said


def test_several_methods():
    """Who leaves least and who keeps most, each with the other side of it; what has collapsed wins nothing."""
    last = {"atu": qa(20, 54), "ga": qa(8, 6), "npo": qa(8, 12), "rmu": qa(0, 60)}
    long = pd.concat([rows(name, qa(80, 60), values, tau=name == "atu") for name, values in last.items()])
    collapsed = judged(long, ("1_Ada", "rmu", 1))
    assert findings(long, [], collapsed)[:2] == [
        "Of 3 methods that can be compared, each after its last stage without a collapse, GA (keeping 10% of Neighbor "
        "QA) and NPO (keeping 20% of Neighbor QA) leave least of Forget QA (10%), and ATU τ=0.5 (leaving 25% of Forget "
        "QA) keeps most of Neighbor QA (90%).",
        f"Collapsed: RMU (100%). {WARNING}",
    ]
    equal = pd.concat([rows(name, qa(80, 60), qa(0.1, 6)) for name in ("atu", "dpo", "ga", "npo")])
    assert findings(equal, [], judged(equal, *(("1_Ada", name, 2) for name in ("atu", "dpo", "ga", "npo"))))[:2] == [
        "Of 4 methods that can be compared, each after its last stage without a collapse, 4 methods leave least of "
        "Forget QA (<1%), and 4 methods keep most of Neighbor QA (10%).",
        f"Collapsed: runs of 4 of 8 stages (†). {WARNING}",
    ]


def test_methods_of_other_targets_are_not_compared():
    long = pd.concat([rows("atu", qa(80, 60), qa(40, 30)), rows("ga", qa(80, 60), qa(40, 30), target="2_Bo")])
    assert findings(long, [], judged(long)) == ["No collapse was found after any stage (of 2).", KNOWN]


def test_a_model_from_elsewhere_that_has_not_forgotten_its_target_leaves_nothing_to_tell():
    long = rows("external-a", qa(80, 60), qa(80, 60))
    assert findings(long, [], judged(long, foreign=True))[1:] == [KNOWN]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (({"forget_qa": 80.0},) * 2, ["After ATU τ=0.5, 100% of Forget QA is left (80.0 of 80.0)."]),
        ((qa(80, 60), {"neighbor_qa": 30.0}), ["After ATU τ=0.5, 50% of Neighbor QA is kept (30.0 of 60.0)."]),
        (({"utility_gen": 25.0},) * 2, []),  # of choices, of which guessing gets a quarter
        ((qa(80, 60), {"utility_gen": 25.0}), []),
        ((qa(0, 60), qa(0, 60)), ["After ATU τ=0.5, 100% of Neighbor QA is kept (60.0 of 60.0)."]),
    ],
)
def test_of_a_set_that_was_not_asked_or_known_nothing_is_said(stages, said):
    long = rows("atu", *stages)
    found = findings(long, [], judged(long))
    assert [sentence for sentence in found if sentence.startswith("After ATU")] == said
    several = pd.concat([long, long.assign(method="atu-x")])
    assert not [sentence for sentence in findings(several, [], judged(several)) if sentence.startswith("Of 2")]


def test_a_stage_at_which_a_target_was_not_asked_is_not_set_beside_all():
    """Its mean would be of other targets than the one before."""
    long = pd.concat([rows("atu", qa(80, 60), qa(40, 30)), rows("atu", qa(20, 20), target="2_Bo")])
    assert findings(long, [], judged(long))[0] == "No collapse was found after any stage (of 1)."


def test_what_the_base_model_does_not_know():
    """Less than half about people, nothing of the rest; each target counts once, however many methods there are."""
    values = qa(49.9, 50) | {"utility_rea": 0.0, "utility_fac": 10.0, "utility_flu": 3.0}
    long = pd.concat(
        [rows(name, values, qa(10, 10), target=target) for name in ("atu", "ga") for target in ("1_Ada", "2_Bo")]
    )
    assert findings(long, [], judged(long))[-1] == (
        "The base model itself scores 49.9 % on Forget QA and 0.0 % on Rea: what it does not know it can neither "
        "forget nor lose."
    )


def test_whose_means_they_are():
    long = pd.concat([rows("atu", qa(80, 60), qa(40, 30), target=name) for name in ("1_Ada", "2_Bo", "3_Cy")])
    probes = "test probes: 8 of Forget QA and 8 of Neighbor QA."
    assert scope(long, ["2_Bo"]) == f"Means over 2 held-out targets; {probes}"
    alone = long[long["target"] != "3_Cy"]
    assert scope(alone, ["1_Ada", "2_Bo"]) == f"Means over 2 dev targets, as there are no others; {probes}"
    assert scope(alone, ["9_Eve"]) == f"Means over 2 targets; {probes}"
    assert findings(long, ["2_Bo", "3_Cy"], judged(long, ("2_Bo", "atu", 1)))[1] == (
        "No collapse was found after any stage (of 1)."
    )


def test_without_test_probes_the_page_says_so():
    long = rows("atu", qa(80, 60), qa(40, 30)).assign(split="dev")
    assert findings(long, [], judged(long)) == ["No test probe was asked."]
    assert findings(long, [], judged(long).head(0)) == ["No test probe was asked."]


def test_a_base_model_alone():
    long = rows("atu", qa(80, 60))
    assert findings(long, [], judged(long)) == [KNOWN]


def test_the_page_holds_all_that_it_shows():
    table = pd.DataFrame({"Method": ["Before", "ATU"], "Forget QA ↓": [80.0, 20.0]})
    page = front_page("Results: <llm> on demo", ["1 < 2."], table, ["A note."], "<svg><title>ATU</title></svg>")
    assert "<h1>Results: &lt;llm&gt; on demo</h1><p>1 &lt; 2.</p>" in page
    assert page.index('<span class="better" style="--by:0.75">20.0</span>') < page.index(f"<p>{LEGEND}</p>")
    assert "<svg><title>ATU</title></svg></figure>" in page
    assert "<script" not in page
    assert "<table" not in front_page("Results", ["1."], table.head(0), [], "")
