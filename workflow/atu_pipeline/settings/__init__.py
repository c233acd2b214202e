"""The config, checked before anything runs; each fault is one line that names the key and how to fix it."""

from atu_pipeline.settings.blocks import has_grid, kind_of, overlay, read_method
from atu_pipeline.settings.check import check_config
from atu_pipeline.settings.experiments import FIGURES, SHOWN, check_overrides, check_selected, experiment_of, overridden
from atu_pipeline.settings.files import check_keys
from atu_pipeline.settings.fit import check_methods_fit, model_needs, unmet_needs
from atu_pipeline.settings.grids import owner_of
from atu_pipeline.settings.messages import ConfigError, did_you_mean, refuse, unknown
from atu_pipeline.settings.methods import reads_retain_set
from atu_pipeline.settings.notes import notes
from atu_pipeline.settings.options import check_options
from atu_pipeline.settings.printing import Covered, Rows, Uncompared
from atu_pipeline.settings.published import check_benchmark, check_protocol, published_row, unlike
from atu_pipeline.settings.share import check_one_kind, share_library
from atu_pipeline.settings.sources import fetched_from, template_of
from atu_pipeline.settings.split import share_of
from atu_pipeline.settings.texts import told_about

__all__ = [
    "FIGURES",
    "SHOWN",
    "ConfigError",
    "Covered",
    "Rows",
    "Uncompared",
    "check_benchmark",
    "check_config",
    "check_keys",
    "check_methods_fit",
    "check_one_kind",
    "check_options",
    "check_overrides",
    "check_protocol",
    "check_selected",
    "did_you_mean",
    "experiment_of",
    "fetched_from",
    "has_grid",
    "kind_of",
    "model_needs",
    "notes",
    "overlay",
    "overridden",
    "owner_of",
    "published_row",
    "read_method",
    "reads_retain_set",
    "refuse",
    "share_library",
    "share_of",
    "template_of",
    "told_about",
    "unknown",
    "unlike",
    "unmet_needs",
]
