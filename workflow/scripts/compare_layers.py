"""How well hidden states of each layer tell the target from its neighbours, before and after."""

from atu.common.files import atomic_path
from atu.common.recipe import check_files, read_table, record
from atu.common.runtime import job_log
from atu.reporting.layers import compare_layers
from atu.reporting.robustness import shares_at_end
from atu.reporting.tables import REMARKED, protocol_of_runs, reported, reported_runs

with job_log(snakemake.log[0]) as log:
    params, inputs = snakemake.params, snakemake.input
    read = [run[kind] for run in params.runs for kind in ("files", "base")]
    check_files({path: recipe for files in read for path, recipe in files.items()})
    protocol_of_runs([{"files": files} for files in read])
    runs = reported_runs(params.runs, read_table(inputs.learning_rates, params.recipe), params.dev_targets)
    table, left_out = compare_layers(runs, **params.classifiers, bootstrap=params.bootstrap)
    for target, why in left_out.items():
        log.warning("%s is left out: %s", target, why)
    shares = shares_at_end(reported(read_table(inputs.collapsed, params.recipe), params.dev_targets))
    marks = {name: [shares.get(method, {}).get(name, 0.0) for method in table["method"]] for name in REMARKED}
    with atomic_path(snakemake.output[0]) as part:
        table.assign(**marks).to_csv(part, index=False)
    record(snakemake.output[0], params.recipe)
    log.info("%d rows", len(table))
