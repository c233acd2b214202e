"""Parts of a language model that settings name: maps that get an adapter, layers that train. It does not load torch."""

from collections.abc import Iterable

from atu.common.errors import ExplainedError

AUTO = "auto"  # the maps that make queries and values, whatever their names in a class
ALL_LAYERS = "none"  # no layers are chosen: the whole model trains
# Names of these maps: separate from the keys', or one map with them (Phi-3; GPT-NeoX, Falcon and BLOOM; GPT-2; MPT).
QUERY_VALUE = (("q_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("c_attn",), ("Wqkv",))


def query_value_maps(known: Iterable[str]) -> list[str]:
    """The names of the maps that make queries and values: the first entry of ``QUERY_VALUE`` that is complete.

    Args:
        known: names of linear maps; only the part after the last dot counts.

    Raises:
        ExplainedError: if there are none.
    """
    ends = {name.rpartition(".")[2] for name in known}
    for names in QUERY_VALUE:
        if ends.issuperset(names):
            return list(names)
    raise ExplainedError(
        f"{AUTO} finds no map that makes queries and values among {', '.join(sorted(ends)) or 'none'}; name the maps "
        "that get an adapter"
    )


def layer_range(layers: str) -> range | None:
    """The decoder layers that a text such as "0-4" names, first and last, counted from 0; None for "none".

    Raises:
        ExplainedError: if the first number is larger than the last.
    """
    if layers == ALL_LAYERS:
        return None
    first, last = map(int, layers.split("-"))
    if first > last:
        raise ExplainedError(f"{layers} names no layer; write {last}-{first}")
    return range(first, last + 1)
