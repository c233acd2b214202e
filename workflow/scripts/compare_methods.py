"""The methods at equal forgetting, with intervals."""

import pandas as pd

from atu.curves import KEPT, matched
from atu.files import atomic_path
from atu.runtime import job_log

with job_log(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    rates = pd.read_csv(snakemake.input.learning_rates)
    unchosen = set(rates.loc[~rates["chosen"].astype(bool), "variant"])
    runs = [row for row in params.runs if row["method"] not in unchosen]
    held_out = [row for row in runs if row["target"] not in params.dev_targets]
    table = matched(held_out or runs, **params.bootstrap)
    log.info("\n%s", table.to_string(index=False))
    with atomic_path(output.long) as part:
        table.to_csv(part, index=False)
    cells = [f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in table.itertuples()]
    wide = table.assign(cell=cells).pivot(index=["kept", "method"], columns="measure", values="cell")
    wide = wide.sort_index(key=lambda names: names.map(KEPT.index) if names.name == "kept" else names).reset_index()
    with atomic_path(output.markdown) as part:
        part.write_text(wide.to_markdown(index=False) + "\n", encoding="utf-8")
