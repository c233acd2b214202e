"""No job loads a package that it does not use: a tiny run is little but imports."""

import subprocess
import sys

import pytest

from conftest import ROOT

SCRIPTS = {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")}
MODELS = ["sentence_transformers", "datasets", "nltk", "sklearn"]
TORCH = [*MODELS, "transformers.modeling_utils", "scipy.stats"]
TABLES = [*TORCH, "torch", "transformers"]
# Scripts, and what none of them may load before it does anything. What is imported late is loaded by need.
GROUPS = {
    "files": (
        {"count_probes", "download_benchmark", "download_primers", "extract_corpus", "keep_weights", "pair_texts"},
        [*TABLES, "pandas", "matplotlib", "scipy"],
    ),
    "tables": (
        {
            "break_down",
            "build_tables",
            "compare_attacks",
            "compare_layers",
            "compare_methods",
            "compare_published",
            "compare_texts",
            "list_known",
            "prepare_probes",
        }
        | {"keep_model", "score_before", "select_stages", "write_answers", "write_front"},
        [*TABLES, "matplotlib"],
    ),
    "figures": ({"plot_figure"}, [*TABLES, "itables"]),
    "states": (
        {"align_predictor", "compute_hidden_states", "find_intervention", "realign_predictor", "unlearn_stage"},
        TORCH,
    ),
    "models": (
        {"attack_model", "check_model", "compute_reference", "download_model", "evaluate_model"}
        | {"answer_questions", "generate_corpus", "probe_layers", "score_texts", "train_method"},
        MODELS,
    ),
    "encoder": ({"embed_target", "embed_windows"}, []),  # these use all
}
LOADED = """
import ast, sys
banned, *scripts = sys.argv[1:]
for script in scripts:
    tree = ast.parse(open(script).read())
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(tree, script, "exec"))
    for name in banned.split(","):
        if name in sys.modules:
            sys.exit(f"{script} loads {name}")
"""


def test_every_script_is_in_one_group():
    assert sorted(name for scripts, _ in GROUPS.values() for name in scripts) == sorted(SCRIPTS)


@pytest.mark.full
@pytest.mark.parametrize("group", [name for name, (_, banned) in GROUPS.items() if banned])
def test_what_jobs_load_before_they_do_anything(group):
    """One process a group: its scripts come one after the other, and the first that loads too much is named."""
    scripts, banned = GROUPS[group]
    paths = [ROOT / f"workflow/scripts/{name}.py" for name in sorted(scripts)]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, ",".join(banned), *paths],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "workflow")},
    )
    assert done.returncode == 0, done.stderr
