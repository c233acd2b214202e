# What the rules share: the checked config, and which files belong to a run.

import itertools
import os
import random
import sys

ROOT = Path(workflow.basedir)

# The library is imported from the checkout, here and in the jobs' scripts.
sys.path.insert(0, str(ROOT / "workflow"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "workflow")] + os.environ.get("PYTHONPATH", "").split(os.pathsep)
).rstrip(os.pathsep)

from settings import check_config

config = check_config(config, ROOT)

LLM, ENCODER, BENCHMARK = config["llm"], config["encoder"], config["benchmark"]
TARGETS, METHODS, SEEDS = config["targets"], config["methods"], config["seeds"]
COMPUTE = {key: config[key] for key in ("device", "precision")}
SHARED_UTILITY = config["benchmarks"][BENCHMARK]["shared_utility"]


wildcard_constraints:
    llm=r"[^/]+",
    benchmark=r"[^/]+",
    encoder=r"[^/]+",
    subject=r"[^/]+",
    target=r"\d+_[^/]+",
    method=r"[^/]+",
    seed=r"\d+",
    stage=r"[1-9]\d*",
    layer=r"\d+",
    k=r"\d+",


def settings(wildcards):
    """Settings of the method that the wildcards name."""
    return config["method_settings"][wildcards.method]


def stages(method):
    """Thresholds of a method's stages; stage n is the n-th."""
    return config["method_settings"][method]["unlearn"]["tau"]


def benchmark_folder(name):
    """The folder-per-target form of a benchmark: the user's own, or the downloaded one."""
    source = config["benchmarks"][name]
    return (
        source["path"] if source["source"] == "path" else f"resources/benchmarks/{name}"
    )


def alignment_subjects(target, method, seed):
    """The target and the others whose texts the predictor is aligned on; drawn by the seed."""
    others = [name for name in config["all_targets"] if name != target]
    count = config["method_settings"][method]["other_subjects"]
    return [target, *sorted(random.Random(f"{seed} {target}").sample(others, count))]


RUN = "results/{llm}/{benchmark}/{target}/{method}/seed{seed}"


def run_path(target, method, seed, file=""):
    """A path inside the folder of one run."""
    run = RUN.format(
        llm=LLM, benchmark=BENCHMARK, target=target, method=method, seed=seed
    )
    return run + file


def before_files(target):
    """Outcomes of the unmodified model that concern a target."""
    subjects = [target, "utility"] if SHARED_UTILITY else [target]
    return [
        f"results/{LLM}/{BENCHMARK}/before/{subject}.parquet" for subject in subjects
    ]


def runs():
    """One row for each stage of each run: what the tables are made of. Stage 0 is the unmodified model."""
    rows = []
    for target in TARGETS:
        for method in METHODS:
            for seed in SEEDS:
                run = {"target": target, "method": method, "seed": seed}
                rows.append(
                    run | {"stage": 0, "tau": None, "files": before_files(target)}
                )
                for stage, tau in enumerate(stages(method), start=1):
                    file = run_path(
                        target, method, seed, f"/stage{stage}/probes.parquet"
                    )
                    rows.append(run | {"stage": stage, "tau": tau, "files": [file]})
    return rows


def outcome_files():
    return sorted({file for row in runs() for file in row["files"]})


def kept_models():
    return [
        run_path(*run, "/model") for run in itertools.product(TARGETS, METHODS, SEEDS)
    ]


def evaluated_sets(method, stage):
    """Probe sets asked after a stage, by name."""
    when = "before_and_after" if stage in (0, len(stages(method))) else "between"
    return config["evaluation"][when]
