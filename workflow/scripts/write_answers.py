"""What was answered before and after unlearning one target, and under attacks, side by side."""

from atu.common.files import atomic_path
from atu.common.names import display_name
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log
from atu.data.attacks import COMPARED
from atu.data.benchmark import target_name
from atu.reporting.pages import UnderAttack, answers, answers_page, means, speech_notes
from atu.reporting.tables import collect, find_collapsed, protocol_of_runs, read_predictions

with job_log(snakemake.log[0]) as log:
    params, target = snakemake.params, target_name(snakemake.wildcards.target)
    read = [run["files"] for run in params.runs] + [run[kind] for run in params.attacked for kind in COMPARED]
    check_files({path: recipe for files in read for path, recipe in files.items()})
    protocol = protocol_of_runs([{"files": files} for files in read])
    before = read_predictions(snakemake.input.before)
    after = {(run["method"], run["seed"]): read_predictions(run["files"]) for run in params.runs if run["stage"] > 0}
    attacked = [
        UnderAttack(
            run["method"],
            run["seed"],
            run["attack"],
            read_predictions(run["files"]),
            read_predictions(run["base_files"]),
        )
        for run in params.attacked
    ]
    table = answers(before, after, attacked)
    long = collect(params.runs, params.model, params.benchmark)
    summary = means(long, find_collapsed(params.runs, params.collapse["fluency_share"]))
    log.info("%d answers of %d runs", len(table), len(after))
    notes = [
        "Each row is a question and a run. Scores are those of the tables: recall, accuracy, F1 and MC1 in percent, "
        "fluency in bits x 100.",
        protocol.sentence,
    ]
    if attacked:
        under = "A row with an attack has the question as it was asked under it; its outcome is of the answers to that."
        notes.insert(1, under)
    for (method, seed), predictions in after.items():
        if predictions.empty:
            why = predictions.attrs.get("diverged", "the last stage was not run, since the model had collapsed before")
            notes.append(f"{display_name(method)}, seed {seed}: {why}.")
    notes += speech_notes(before, after)
    page = answers_page(table, f"{target}: answers before and after", notes, summary)
    with atomic_path(snakemake.output[0]) as part:
        part.write_text(page, encoding="utf-8")
    record(snakemake.output[0], params.recipe)
