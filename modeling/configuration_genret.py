"""Configuration of a generative retriever: its parts and the sizes of its index."""

from __future__ import annotations

import copy
import inspect
import math
import operator
from typing import Any

from transformers import PreTrainedConfig

_FOR_TRANSFORMERS: dict[str, Any] = {
    "is_encoder_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": None,  # said outright: training says it, and a run that goes on has to agree
    "eos_token_id": None,
    "decoder_start_token_id": 0,
    "tie_word_embeddings": False,
    # One auto class a class goes into auto_map by itself; AutoModel must be there as well.
    "auto_map": {
        "AutoConfig": "configuration_genret.GenRetConfig",
        "AutoModel": "modeling_genret.GenRetModel",
        "AutoModelForSeq2SeqLM": "modeling_genret.GenRetModel",
    },
}


class GenRetConfig(PreTrainedConfig):
    """Everything needed to rebuild a `GenRetModel` before its weights are loaded.

    An encoder is described by a dictionary whose `type` names a class of `encoders_genret.ENCODERS`
    and whose other entries are that class's settings, for example
    `{"type": "text", "backbone": {"model_type": "bert", ...}, "pooling": "mean"}`.

    Args:
        query_encoder: Reads query text; None when queries have no text.
        item_encoder: Reads documents or items; None shares the query encoder.
        history_encoder: Reads the items a user met before (or the user); None without histories.
        vector_dim: Width D of the space in which queries, items and cluster heads live.
        normalize: Whether pooled vectors have unit length.
        query_adapter: Whether a residual linear map, started at zero, follows the query encoder.
        item_adapter: The same for items.
        codebook_sizes: K_1 .. K_L, the number of codes of each level.
        share_levels: One embedding and head for all levels (URI), so that a code means the same
            at every level; needs plain heads.
        decoder_type: Name in `decoder_genret.DECODERS`: `transformer`, or `tiger`, which attends to
            the codes of a history's items instead of their vectors.
        decoder_dim: Width of the decoder.
        decoder_layers: Number of decoder blocks.
        decoder_heads: Attention heads a block.
        decoder_dropout: Dropout inside the decoder.
        decoder_inputs: What the decoder reads of the codes so far: `tokens` (embeddings of its
            own) or `codebooks` (the vectors of codebook heads).
        head_type: Name in `heads_genret.HEADS`: `plain`, `prefix_aware`, `cluster` or `codebook`.
        head_matrices: Matrices that a prefix-aware head mixes.
        head_scale: Start of the learnable scale (inverse temperature) of cluster and codebook
            heads.
        head_similarity: `cosine` or `dot`, between a query and a cluster centre.
        normalize_codes: Whether a codebook head's codes count with unit length where they are
            subtracted or read; in a cosine they always do.
        max_head_nodes: Cluster heads keep one centre a node up to this many nodes a level.
        indexer: What gives a document its id, a name in `indexers_genret.INDEXERS`: `decoder` (the
            decoder itself, reading the document), `mlp`, `pq`, `rq`, or `tied` (a residual
            quantizer on the codebook heads).
        indexer_hidden: Width of the MLP indexer's hidden layer; 0 is twice `vector_dim`.
        indexer_dropout: Dropout of the MLP indexer.
        indexer_similarity: `cosine` or `distance`, between a vector and a codebook of its own.
        indexer_scale: Start of the indexer's learnable scale; 0 lets a tied one share the heads'.
        ranker_similarity: Name in `ranking_genret.SIMILARITIES`: `dot`, `cosine`, `bilinear` or
            `low_rank`.
        ranker_rank: Rank of the low-rank bilinear map.
        ranker_scale: Start of the learnable inverse temperature of the ranker's softmax.
        ranking: How candidates are ordered: `sum` (the ranker's score and the beam's weighted) or
            `lexicographic` (first the beam's score, then the ranker's; DGI).
        forest: Whether the first code of an id is the number of a tree (RecForest): it is given,
            all trees are equally likely, and each is searched by itself.
        ids_per_document: Ids that a document owns at most (J; the trees of a forest).
        path_merge: What the scores of several ids of a document come to: `best`, `sum` (over the
            trees of a forest; RecForest) or `logsumexp` (over the ids found; Deep Retrieval).
        beam_weight: Weight of the beam's log-probability beside the ranker's score.
        search_beams: Leaves that `search` visits by default.
        exhaustive_up_to: Where no more documents than this can be found, `search` visits every leaf
            by default, whatever `search_beams` says: so few are ranked in no time. 0 for never.
        query_prompt: Text put before every query.
        document_prompt: Text put before every document.
        max_query_length: Tokens kept of a query.
        max_document_length: Tokens kept of a document.
        num_documents: Rows of the document store.
        num_paths: Paths in the index (a document may own several).
        num_nodes: Nodes of the id trie at each level 1..L.
    """

    model_type = "genret"
    attribute_map = {
        "num_hidden_layers": "decoder_layers",
        "num_attention_heads": "decoder_heads",
        "hidden_size": "decoder_dim",
    }

    def __init__(
        self,
        query_encoder: dict[str, Any] | None = None,
        item_encoder: dict[str, Any] | None = None,
        history_encoder: dict[str, Any] | None = None,
        vector_dim: int = 64,
        normalize: bool = True,
        query_adapter: bool = False,
        item_adapter: bool = False,
        codebook_sizes: list[int] | None = None,
        share_levels: bool = False,
        decoder_type: str = "transformer",
        decoder_dim: int = 128,
        decoder_layers: int = 2,
        decoder_heads: int = 4,
        decoder_dropout: float = 0.1,
        decoder_inputs: str = "tokens",
        head_type: str = "cluster",
        head_matrices: int = 8,
        head_scale: float = 10.0,
        head_similarity: str = "cosine",
        normalize_codes: bool = False,
        max_head_nodes: int = 65_536,
        indexer: str = "decoder",
        indexer_hidden: int = 0,
        indexer_dropout: float = 0.2,
        indexer_similarity: str = "distance",
        indexer_scale: float = 10.0,
        ranker_similarity: str = "dot",
        ranker_rank: int = 32,
        ranker_scale: float = 20.0,
        ranking: str = "sum",
        forest: bool = False,
        ids_per_document: int = 1,
        path_merge: str = "best",
        beam_weight: float = 0.0,
        search_beams: int = 50,
        exhaustive_up_to: int = 500,
        query_prompt: str = "",
        document_prompt: str = "",
        max_query_length: int = 64,
        max_document_length: int = 256,
        num_documents: int = 0,
        num_paths: int = 0,
        num_nodes: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.query_encoder = copy.deepcopy(query_encoder)
        self.item_encoder = copy.deepcopy(item_encoder)
        self.history_encoder = copy.deepcopy(history_encoder)
        self.vector_dim = vector_dim
        self.normalize = normalize
        self.query_adapter = query_adapter
        self.item_adapter = item_adapter
        self.codebook_sizes = _whole_numbers(
            "codebook_sizes", [32, 32] if codebook_sizes is None else codebook_sizes
        )
        self.share_levels = share_levels
        self.decoder_type = decoder_type
        self.decoder_dim = decoder_dim
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.decoder_dropout = decoder_dropout
        self.decoder_inputs = decoder_inputs
        self.head_type = head_type
        self.head_matrices = head_matrices
        self.head_scale = head_scale
        self.head_similarity = head_similarity
        self.normalize_codes = normalize_codes
        self.max_head_nodes = max_head_nodes
        self.indexer = indexer
        self.indexer_hidden = indexer_hidden
        self.indexer_dropout = indexer_dropout
        self.indexer_similarity = indexer_similarity
        self.indexer_scale = indexer_scale
        self.ranker_similarity = ranker_similarity
        self.ranker_rank = ranker_rank
        self.ranker_scale = ranker_scale
        self.ranking = ranking
        self.forest = forest
        self.ids_per_document = ids_per_document
        self.path_merge = path_merge
        self.beam_weight = beam_weight
        self.search_beams = search_beams
        self.exhaustive_up_to = exhaustive_up_to
        self.query_prompt = query_prompt
        self.document_prompt = document_prompt
        self.max_query_length = max_query_length
        self.max_document_length = max_document_length
        self.num_documents = num_documents
        self.num_paths = num_paths
        self.num_nodes = _whole_numbers("num_nodes", num_nodes or [0] * len(self.codebook_sizes))
        self._check_types()
        self._check()
        super().__init__(**{**copy.deepcopy(_FOR_TRANSFORMERS), **kwargs})

    def _check_types(self) -> None:
        """Refuse a value of another type than its default, and a number that cannot be."""
        for name, default in _DEFAULTS.items():
            value, kind = getattr(self, name), type(default)
            if kind is type(None):
                if not (value is None or isinstance(value, dict)):
                    raise ValueError(f"{name} must be settings by name or null, found {value!r}.")
                continue
            numbers = (int, float) if kind is float else (kind,)
            if not isinstance(value, numbers) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{name} must be {_SPOKEN[kind]}, found {value!r}.")
            if kind is float and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, found {value!r}.")
            if kind is int and value < _LEAST.get(name, 1):
                raise ValueError(f"{name} must be at least {_LEAST.get(name, 1)}, found {value}.")
            if name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"{name} must lie in 0..1, found {value}.")
        if self.num_nodes and min(self.num_nodes) < 0:
            raise ValueError(f"num_nodes must be 0 or above, found {self.num_nodes}.")

    def _check(self) -> None:
        """Refuse settings that contradict each other, in one sentence each."""
        if not self.codebook_sizes or any(size < 1 for size in self.codebook_sizes):
            raise ValueError(
                f"codebook_sizes needs one positive size a level, found {self.codebook_sizes}."
            )
        if self.head_similarity not in ("cosine", "dot"):
            raise ValueError(
                f"head_similarity must be cosine or dot, found {self.head_similarity!r}."
            )
        if self.indexer_similarity not in ("cosine", "distance"):
            raise ValueError(
                f"indexer_similarity must be cosine or distance, found {self.indexer_similarity!r}."
            )
        if self.decoder_inputs not in ("tokens", "codebooks"):
            raise ValueError(
                f"decoder_inputs must be tokens or codebooks, found {self.decoder_inputs!r}."
            )
        if self.ranking not in ("sum", "lexicographic"):
            raise ValueError(f"ranking must be sum or lexicographic, found {self.ranking!r}.")
        if self.path_merge not in ("best", "sum", "logsumexp"):
            raise ValueError(
                f"path_merge must be best, sum or logsumexp, found {self.path_merge!r}."
            )
        if self.ids_per_document < 1:
            raise ValueError(f"ids_per_document must be at least 1, found {self.ids_per_document}.")
        if self.forest and len(self.codebook_sizes) < 2:
            raise ValueError(
                "A forest needs codebook_sizes of two levels or more, first the number of trees, "
                f"found {self.codebook_sizes}."
            )
        if self.head_type != "codebook" and (
            self.decoder_inputs == "codebooks" or self.indexer == "tied"
        ):
            raise ValueError(
                "decoder_inputs='codebooks' and indexer='tied' need head_type='codebook', "
                f"found {self.head_type!r}."
            )
        if self.indexer in ("pq", "rq") and self.indexer_scale <= 0:
            raise ValueError(
                f"indexer={self.indexer!r} needs indexer_scale above 0, found {self.indexer_scale}."
            )
        if len(self.num_nodes) != len(self.codebook_sizes):
            raise ValueError(
                f"num_nodes has {len(self.num_nodes)} entries, codebook_sizes has "
                f"{len(self.codebook_sizes)}; one a level was expected."
            )
        if self.share_levels and (self.head_type != "plain" or len(set(self.codebook_sizes)) > 1):
            raise ValueError(
                "share_levels needs head_type='plain' and levels of equal size, "
                f"found head_type={self.head_type!r} and sizes {self.codebook_sizes}."
            )
        if self.decoder_type == "mlp" and self.decoder_inputs != "tokens":
            raise ValueError("decoder_type='mlp' needs decoder_inputs='tokens'.")
        if self.decoder_dim % self.decoder_heads:
            raise ValueError(
                f"decoder_dim ({self.decoder_dim}) must be a multiple of decoder_heads "
                f"({self.decoder_heads})."
            )

    @property
    def num_levels(self) -> int:
        """L, the length of an id."""
        return len(self.codebook_sizes)

    @property
    def level_offsets(self) -> list[int]:
        """First token of each level's block in the vocabulary of generate(); 0 is pad and start."""
        if self.share_levels:
            return [1] * self.num_levels
        offsets = [1]
        for size in self.codebook_sizes[:-1]:
            offsets.append(offsets[-1] + size)
        return offsets

    @property
    def vocab_size(self) -> int:
        """Tokens of generate(): pad/start, then one block a level (one block when shared)."""
        return self.level_offsets[-1] + self.codebook_sizes[-1]

    def default_beams(self, documents: int) -> int:
        """Leaves that a search visits where nobody says how many.

        Args:
            documents: That can be found: all of the index, or what a filter leaves of them.

        Returns:
            `search_beams`; with at most `exhaustive_up_to` documents as many as they can lie in.
        """
        if documents > self.exhaustive_up_to:
            return self.search_beams
        leaves = max(documents * self.ids_per_document, 1)
        # The trees of a forest share the beams evenly, whatever their leaves.
        return leaves if self.forest else min(leaves, max(self.num_nodes[-1], 1))

    def fix_beams(self, beams: int) -> None:
        """Let a search visit so many leaves by default, also where few documents can be found."""
        self.search_beams, self.exhaustive_up_to = beams, 0

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> GenRetConfig:
        """The configuration that sizes the caches of generate(): this one."""
        del decoder, encoder
        return self


_SPOKEN = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_LISTS = ("codebook_sizes", "num_nodes")
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(GenRetConfig.__init__).parameters.items()
    if parameter.default is not inspect.Parameter.empty and name not in _LISTS
}
_LEAST = dict.fromkeys(
    ("indexer_hidden", "num_documents", "num_paths", "decoder_layers", "exhaustive_up_to"), 0
)
"""The smallest value of whole numbers; 1 for all others."""


def _whole_numbers(name: str, values: Any) -> list[int]:
    """A list of whole numbers, whatever kind of sequence it came as."""
    try:
        return [operator.index(value) for value in values]
    except TypeError as error:
        raise ValueError(f"{name} must be a list of whole numbers, found {values!r}.") from error
