"""The model card of an unlearned model, in the hub's format: https://huggingface.co/docs/hub/model-cards."""

from collections.abc import Sequence

import pandas as pd
import yaml
from huggingface_hub import ModelCard, ModelCardData

from atu.common.names import in_words
from atu.data.benchmark import OF_DEV_TARGET, TEST, target_name
from atu.reporting.tables import HEADINGS, NO_SPEECH, NO_SPEECH_NOTE, summarize, summarize_speech

CHOSEN_ON = "chosen_on"  # attribute of a table of scores: whether settings were chosen on its probes


def score_table(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Scores of the base model and the unlearned model on test probes, one row per metric that both have.

    Args:
        before, after: predictions of the two models.

    Returns:
        Metric, Probes, Before, After; units as in :func:`atu.reporting.tables.summarize`. Shares of degenerate, empty
        and refused answers about the target come last, if there are any.
    """
    scores = []
    for predictions in (before, after):
        rows = pd.concat([summarize(predictions), summarize_speech(predictions)])
        scores.append(rows[rows["split"] == TEST].set_index("metric"))
    both = [name for name in HEADINGS | NO_SPEECH if name in scores[0].index and name in scores[1].index]
    names = [name for name in both if name in HEADINGS or any(part.loc[name, "value"] > 0 for part in scores)]
    values = {"Before": scores[0].loc[names, "value"], "After": scores[1].loc[names, "value"]}
    table = pd.DataFrame({"Probes": scores[1].loc[names, "n"], **values})
    table = table.rename(index=HEADINGS | NO_SPEECH).rename_axis("Metric").reset_index()
    table.attrs[CHOSEN_ON] = bool((after["split"] == OF_DEV_TARGET).any())
    return table


def loading(adapter: bool, base: dict) -> str:
    """Python lines that load the model.

    Args:
        adapter: whether the directory holds only a LoRA adapter.
        base: as for :func:`model_card`; if an adapter's base model is not on the hub, the reader must supply it.
    """
    alone = adapter and not base.get("revision")  # peft does not find its base
    loader = "AutoPeftModelForCausalLM" if adapter and not alone else "AutoModelForCausalLM"
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if adapter:
        imported = "PeftModel" if alone else loader
        lines = [f"from peft import {imported}", *(lines if alone else ["from transformers import AutoTokenizer"])]
    lines += ["", 'folder = "."  # this directory, or the name of its repository']
    if alone:
        lines.append(f'base = "base-model"  # a directory with the base weights ({base.get("weights", "unknown")})')
        lines.append(f"llm = PeftModel.from_pretrained({loader}.from_pretrained(base), folder)")
    else:
        lines.append(f"llm = {loader}.from_pretrained(folder)")
    return "\n".join([*lines, "tokenizer = AutoTokenizer.from_pretrained(folder)"])


def model_card(
    run: dict,
    provenance: dict,
    scores: pd.DataFrame,
    base: dict,
    dataset: str | None,
    adapter: bool,
    not_run: int | None = None,
    collapsed: Sequence[str] = (),
    diverged: str | None = None,
    asked: str = "",
) -> ModelCard:
    """The card of one kept model.

    Args:
        run: llm, benchmark, target, method, seed; for several people also the list ``forgotten``.
        provenance: from :func:`atu.common.runtime.provenance`, as recorded beside the model.
        scores: from :func:`score_table`; empty if nothing was asked.
        base: facts about the base model, all optional: base_model (its name on the hub), license, weights (where they
            come from) and revision (if that is the hub).
        dataset: the benchmark's name on the hub.
        adapter: whether the directory holds only a LoRA adapter.
        not_run: the first stage that was not run, because the stage before it had collapsed.
        collapsed: why the model has collapsed, from :func:`atu.evaluation.collapse.why_collapsed`.
        diverged: the message about training that has diverged; there is then no model.
        asked: a sentence about the protocol of the evaluation.
    """
    own = ["align-then-unlearn"] if "align" in provenance["settings"] else []
    data = ModelCardData(
        base_model=base.get("base_model"),
        base_model_relation=("adapter" if adapter else "finetune") if base.get("base_model") else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        license=base.get("license"),
        datasets=[dataset] if dataset else None,
        tags=["machine-unlearning", *own, run["method"]],
    )
    people = run.get("forgotten") or [run["target"]]
    name, settings = in_words(map(target_name, people)), provenance["settings"]
    chosen = {key: value for key, value in settings.items() if key != "run"}
    parts = [
        f"# {run['llm']} without {name}",
        f"*{run['llm']}* that was made to forget **{name}** (`{'`, `'.join(people)}` of the benchmark "
        f"*{run['benchmark']}*) by the method `{run['method']}`, seed {run['seed']}.",
    ]
    if not_run:
        parts.append(f"**The model had collapsed before stage {not_run}: that stage and later ones were not run.**")
    if diverged:
        parts.append(f"**There is no model: {diverged}.**")
    if collapsed:
        parts.append(f"**The model has collapsed: {'; '.join(collapsed)}.**")
    chosen_on = scores.attrs.get(CHOSEN_ON, False)
    parts.append(f"## Scores on {'probes on which settings were chosen' if chosen_on else 'test probes'}")
    if len(scores):
        parts.append(scores.to_markdown(index=False, floatfmt=".1f"))
        parts.append(
            "Forget and Neighbor: ROUGE-L recall in percent on fill-in-the-blank (FB), questions (QA) and adversarial "
            "probes (AA). MIA: -100 x log-likelihood of texts about the target (FM) and others (RM). Utility: accuracy "
            "(Gen), exact match (Rea), MC1 (Tru), F1 (Fac), all in percent; n-gram entropy in bits x 100 (Flu). Arrows "
            "point to the better direction. Low recall does not prove that knowledge is gone: other prompts may "
            "bring it back." + f" {asked}" * bool(asked)
        )
        if set(NO_SPEECH.values()) & set(scores["Metric"]):
            parts.append(NO_SPEECH_NOTE)
    else:
        parts.append("None: no test probe was asked both before and after.")
    if not diverged:
        parts.append(f"## How to load it\n\n```python\n{loading(adapter, base)}\n```")
    parts += [
        f"## Settings\n\n```yaml\n{yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True).strip()}\n```",
        "## Provenance",
        "\n".join(
            [
                f"- base weights: {base.get('weights', 'unknown')}",
                f"- git commit: {provenance['git_commit'] or 'unknown'}",
                f"- versions: {', '.join(f'{name} {version}' for name, version in provenance['versions'].items())}",
                "- more: `provenance.json` in this directory",
            ]
        ),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
