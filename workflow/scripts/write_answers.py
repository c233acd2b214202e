"""What was answered before and after unlearning one target, side by side."""

from atu.common.files import atomic_path
from atu.common.names import display_name
from atu.common.recipe import check_files, record
from atu.common.runtime import job_log
from atu.data.benchmark import target_name
from atu.reporting.pages import answers, answers_page, speech_notes
from atu.reporting.tables import protocol_of_runs, read_predictions

with job_log(snakemake.log[0]) as log:
    params, target = snakemake.params, target_name(snakemake.wildcards.target)
    check_files({path: recipe for run in params.runs for path, recipe in run["files"].items()})
    protocol = protocol_of_runs(params.runs)
    before = read_predictions(snakemake.input.before)
    after = {(run["method"], run["seed"]): read_predictions(run["files"]) for run in params.runs if run["stage"] > 0}
    table = answers(before, after)
    log.info("%d answers of %d runs", len(table), len(after))
    notes = [
        "Each row is a question and a run. Scores are those of the tables: recall, accuracy, F1 and MC1 in percent, "
        "fluency in bits x 100.",
        protocol.sentence,
    ]
    for (method, seed), predictions in after.items():
        if predictions.empty:
            why = predictions.attrs.get("diverged", "the last stage was not run, since the model had collapsed before")
            notes.append(f"{display_name(method)}, seed {seed}: {why}.")
    notes += speech_notes(before, after)
    with atomic_path(snakemake.output[0]) as part:
        part.write_text(answers_page(table, f"{target}: answers before and after", notes), encoding="utf-8")
    record(snakemake.output[0], params.recipe)
