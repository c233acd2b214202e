"""Parts of a language model as settings name them: maps that get an adapter, layers that train. No torch is loaded."""

from collections.abc import Iterable

from atu.common.errors import ExplainedError

AUTO = "auto"  # the maps that make queries and values, whatever a class calls them
ALL_LAYERS = "none"  # no layers are chosen: all of the model trains
# What classes call these maps: apart from the keys', or one with them (Phi-3; GPT-NeoX, Falcon and BLOOM; GPT-2; MPT).
QUERY_VALUE = (("q_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("c_attn",), ("Wqkv",))


def query_value_maps(known: Iterable[str]) -> list[str]:
    """The names of the maps that make queries and values: the first of ``QUERY_VALUE`` that are all there.

    Args:
        known: names of linear maps; what stands before the last dot does not count.

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
    """The layers of a decoder that "0-4" names, first and last counted from 0; None for "none".

    Raises:
        ExplainedError: if the first is behind the last.
    """
    if layers == ALL_LAYERS:
        return None
    first, last = map(int, layers.split("-"))
    if first > last:
        raise ExplainedError(f"{layers} names no layer; write {last}-{first}")
    return range(first, last + 1)
