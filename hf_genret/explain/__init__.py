"""Why a document was found: level by level, with the words of every prefix, and the tree of ids."""

from __future__ import annotations

from hf_genret.explain.explanation import Choice, Explanation, Step
from hf_genret.explain.search import explain
from hf_genret.explain.tree import TreeNode, docid_tree
from hf_genret.explain.words import PrefixWords, words_of

__all__ = [
    "Choice",
    "Explanation",
    "PrefixWords",
    "Step",
    "TreeNode",
    "docid_tree",
    "explain",
    "words_of",
]
