"""The tree of ids: a sunburst of prefixes, tiles with typical words, documents of a bucket."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hf_genret.demo import parts
from hf_genret.explain.explanation import join

if TYPE_CHECKING:
    from hf_genret.demo.answers import Branch
    from hf_genret.explain import TreeNode

_HOLE, _INNER, _OUTER = 42.0, 92.0, 128.0  # radii
_ROOM = 0.13  # radians that a code needs on its arc
_MANY = 400  # arcs too thin to be told apart
_SNIPPET = 200


def browser_html(branch: Branch) -> str:
    """A prefix: where it stands, what lies below it."""
    node = branch.node
    head = f'<nav class="g-crumbs" aria-label="Prefix">{_crumbs(node)}</nav>'
    about = (
        f'<p class="g-note">{parts.documents(node.documents)}'
        + (f", {node.ways:,} codes go on from here" if node.ways else " share this docid")
        + (f". Typical words: {parts.words(node.words)}" if node.words else "")
        + "</p>"
    )
    if not node.ways:
        return f'<div class="g-browser">{head}{about}{_bucket(branch)}</div>'
    tiles = "".join(_tile(child, node) for child in node.children)
    left = node.ways - len(node.children)
    more = f'<p class="g-note">and {left:,} smaller ones</p>' if left > 0 else ""
    return (
        f'<div class="g-browser">{head}{about}<div class="g-split">{sunburst(branch)}'
        f'<div><div class="g-tiles">{tiles}</div>{more}</div></div></div>'
    )


def _crumbs(node: TreeNode) -> str:
    steps = ['<button type="button" data-prefix="" class="g-crumb">all ids</button>']
    steps += [
        parts.chip(node.prefix[: level + 1], join(node.prefix[: level + 1]))
        for level in range(len(node.prefix))
    ]
    return '<span class="g-arrow">›</span>'.join(steps)


def _tile(child: TreeNode, parent: TreeNode) -> str:
    share = child.documents / max(one.documents for one in parent.children)
    return (
        f'<button type="button" class="g-tile" style="{parts.hue(child.prefix)}" '
        f'data-prefix="{join(child.prefix)}"><span class="g-code">{join(child.prefix)}</span>'
        f"{parts.words(child.words[:5])}"
        f'<span class="g-count">{parts.documents(child.documents, "doc")}</span>'
        f"{parts.bar(share)}</button>"
    )


def _bucket(branch: Branch) -> str:
    items = "".join(
        f'<li class="g-hit" style="{parts.hue(branch.node.prefix)}"><div class="g-head">'
        f'<span class="g-title">{parts.text(one.get("title") or one["id"], 120)}</span></div>'
        f'<p class="g-snippet">{parts.text(one.get("text"), _SNIPPET)}</p></li>'
        for one in branch.documents
    )
    left = branch.node.documents - len(branch.documents)
    more = f'<p class="g-note">and {left:,} more</p>' if left > 0 else ""
    return f'<ol class="g-hits">{items}</ol>{more}'


def sunburst(branch: Branch) -> str:
    """Children as a ring, grandchildren around it; an arc is as wide as its documents are many."""
    total = sum(child.documents for child in branch.node.children)
    many = sum(len(ways) for ways in branch.outer.values()) > _MANY
    arcs: list[str] = []
    names: list[str] = []
    angle = 0.0
    for child in sorted(branch.node.children, key=lambda one: one.prefix):
        span = 2 * math.pi * child.documents / max(total, 1)
        label = f"{join(child.prefix)}: {parts.documents(child.documents)}: " + ", ".join(
            child.words
        )
        arcs.append(_arc(child.prefix, angle, span, _HOLE, _INNER, label))
        names.append(_name(child.prefix[-1], angle + span / 2, span))
        start = angle
        for code, size in branch.outer.get(child.prefix, []):
            part = span * size / max(child.documents, 1)
            prefix = (*child.prefix, code)
            about = f"{join(prefix)}: {parts.documents(size)}"
            kind = "g-outer g-many" if many else "g-outer"
            arcs.append(_arc(prefix, start, part, _INNER + 2, _OUTER, about, kind))
            start += part
        angle += span
    edge = _OUTER + 2
    middle = join(branch.node.prefix) or "all"
    return (
        f'<svg class="g-sun" viewBox="{-edge} {-edge} {2 * edge} {2 * edge}" role="img" '
        f'aria-label="Docids below {middle}">{"".join(arcs + names)}'
        f'<text text-anchor="middle" y="-2">{middle}</text>'
        f'<text text-anchor="middle" y="14" class="g-small">{branch.node.documents:,}</text></svg>'
    )


def _arc(
    prefix: tuple[int, ...],
    start: float,
    span: float,
    inner: float,
    outer: float,
    label: str,
    kind: str = "g-inner",
) -> str:
    span = min(span, 2 * math.pi - 1e-4)
    large = int(span > math.pi)

    def point(radius: float, angle: float) -> str:
        return f"{radius * math.sin(angle):.2f} {-radius * math.cos(angle):.2f}"

    end = start + span
    path = (
        f"M{point(outer, start)}A{outer} {outer} 0 {large} 1 {point(outer, end)}"
        f"L{point(inner, end)}A{inner} {inner} 0 {large} 0 {point(inner, start)}Z"
    )
    return (
        f'<path d="{path}" class="{kind}" style="{parts.hue(prefix)};--shade:{_shade(prefix)}" '
        f'data-prefix="{join(prefix)}"><title>{parts.text(label, 200)}</title></path>'
    )


def _shade(prefix: tuple[int, ...]) -> int:
    """Neighbours below one code share its colour and differ in lightness, in percent."""
    return (prefix[-1] % 3) * 5 - 5 if len(prefix) > 1 else 0


def _name(code: int, angle: float, span: float) -> str:
    """The code on its arc, where there is room."""
    if span < _ROOM:
        return ""
    radius = (_HOLE + _INNER) / 2
    x, y = radius * math.sin(angle), -radius * math.cos(angle) + 2.5
    return f'<text class="g-name" text-anchor="middle" x="{x:.1f}" y="{y:.1f}">{code}</text>'
