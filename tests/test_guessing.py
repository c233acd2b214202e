"""Better than guessing or not, by hand-computed numbers."""

import json

import pandas as pd

from atu.evaluation.guessing import abilities, better_than_guessing
from atu.reporting.tables import guess_notes


def test_what_a_guess_would_seldom_reach():
    assert better_than_guessing(0.5, 0.25, 20)  # ten of twenty: 1.4 % by chance
    assert not better_than_guessing(0.4, 0.25, 20)  # eight: 10 %
    assert better_than_guessing(0.1, 0.0, 20)  # two of twenty that were written
    assert not better_than_guessing(0.0, 0.0, 20)


def answers(name, right, wrong, split="test", **details):
    """Predictions of a set, the first ones right."""
    rows = [
        {"set": name, "id": f"{name}/{i}", "split": split, "query": f"{name} {i}?", "score": float(i < right)}
        for i in range(right + wrong)
    ]
    return pd.DataFrame(rows).assign(details=json.dumps(details))


def test_abilities_of_each_utility_set():
    """Letters: 8 of 20 where a guess has a quarter; written answers: 2 of 20; what is no ability is left out."""
    asked = [answers("utility_gen", 8, 12, guess=0.25), answers("utility_fac", 2, 18), answers("forget_qa", 1, 1)]
    found = abilities(pd.concat([*asked, *asked]))  # of two targets, who share them
    assert found.values.tolist() == [["utility_gen", 0.4, 0.25, 20, False], ["utility_fac", 0.1, 0.0, 20, True]]


def test_the_note_names_what_cannot_be_lost(tmp_path):
    """Of the base model's test probes; what a dev target was asked counts only where there is none else."""
    for name, right in (("held", 8), ("dev", 20)):
        frame = pd.concat([answers("utility_gen", right, 20 - right, guess=0.25), answers("utility_rea", 20, 0, "dev")])
        frame.to_parquet(tmp_path / f"{name}.parquet")
    runs = [{"target": name, "stage": 0, "files": [str(tmp_path / f"{name}.parquet")]} for name in ("held", "dev")]
    after = {"target": "held", "stage": 1, "files": ["never read"]}
    said = "The base model does no better than guessing on Gen (40.0 of 20, by guessing 25.0)"
    assert guess_notes([*runs, runs[0], after], ["dev"]) == [f"{said}, so that nothing can be seen to be lost there."]
    assert guess_notes(runs[1:], ["dev"]) == []
    assert guess_notes([after], []) == []


def test_choices_without_what_a_guess_scores_are_not_judged():
    assert abilities(answers("utility_gen", 5, 55).drop(columns="details")).empty
    assert abilities(answers("utility_fac", 5, 55).drop(columns="details"))["able"].tolist() == [True]
