"""Hover texts of points in an SVG: run, stage, value and number of probes."""

import json
from collections.abc import Iterable
from xml.etree import ElementTree

from matplotlib.artist import Artist

SVG = "{http://www.w3.org/2000/svg}"
TOLD = "told:"  # prefix of the id of a line or bar, until its texts are written
ElementTree.register_namespace("", SVG.strip("{}"))
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def tell(artist: Artist, texts: Iterable[str]) -> None:
    """Give a line one text per point, in order, or a bar its one text."""
    artist.set_gid(TOLD + json.dumps(list(texts)))


def with_titles(svg: str) -> str:
    """The SVG that matplotlib wrote, with the texts of :func:`tell` as titles; it can be embedded in HTML.

    Raises:
        ValueError: if the numbers of points and texts differ.
    """
    root = ElementTree.fromstring(svg)
    for metadata in root.findall(f"{SVG}metadata"):
        root.remove(metadata)
    parents = {child: parent for parent in root.iter() for child in parent}
    for group in [found for found in root.iter(f"{SVG}g") if found.get("id", "").startswith(TOLD)]:
        texts = json.loads(group.attrib.pop("id").removeprefix(TOLD))
        points = list(group.iter(f"{SVG}use")) or list(group.iter(f"{SVG}path"))[: len(texts)]  # of a line, or a bar
        for point, text in zip(points, texts, strict=True):
            named, holder = ElementTree.Element(f"{SVG}g"), parents[point]
            ElementTree.SubElement(named, f"{SVG}title").text = text
            holder[list(holder).index(point)] = named
            named.append(point)
    return ElementTree.tostring(root, encoding="unicode")
