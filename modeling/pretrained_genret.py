"""What transformers must know of the model: how modules start, what is never split."""

from __future__ import annotations

import math

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .configuration_genret import GenRetConfig
from .encoders_genret import BagEncoder, ItemEncoder, ResidualAdapter
from .heads_genret import ClusterHeads, CodebookHeads
from .index_genret import DocidIndex
from .indexers_genret import ProductIndexer, ResidualIndexer, TiedIndexer
from .nci_genret import PrefixAwareHeads
from .ranking_genret import Bilinear, LowRank, Ranker


class GenRetPreTrainedModel(PreTrainedModel):
    """What transformers needs to know to build, initialise and shard the model."""

    config_class = GenRetConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _no_split_modules = ["DecoderBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Start values of our own modules; a backbone starts itself."""
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)
            if module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            init.normal_(module.in_proj_weight, std=0.02)
            init.zeros_(module.in_proj_bias)
        elif isinstance(module, ResidualAdapter):
            init.zeros_(module.weight)
        elif isinstance(module, ClusterHeads):
            for centre in module.centres:
                init.normal_(centre, std=0.02)
            for residual in module.residuals:
                init.zeros_(residual.weight)
            init.constant_(module.scale, float(self.config.head_scale))
        elif isinstance(module, CodebookHeads):
            for centre in module.centres:
                init.normal_(centre, std=0.02)
            for residual in module.residuals:
                init.zeros_(residual.weight)
            init.constant_(module.log_scale, math.log(self.config.head_scale))
        elif isinstance(module, PrefixAwareHeads):
            init.zeros_(module.matrices)
        elif isinstance(module, (ProductIndexer, ResidualIndexer)):
            for codebook in module.codebooks:
                init.normal_(codebook, std=0.02)
            init.constant_(module.scale, float(self.config.indexer_scale))
        elif isinstance(module, TiedIndexer) and module.scale is not None:
            init.constant_(module.scale, float(self.config.indexer_scale))
        elif isinstance(module, Ranker):
            init.constant_(module.scale, float(self.config.ranker_scale))
        elif isinstance(module, Bilinear):
            init.zeros_(module.change)
        elif isinstance(module, LowRank):
            init.normal_(module.left, std=self.config.vector_dim**-0.5)
            init.copy_(module.right, module.left)
        self._init_buffers(module)

    def _init_buffers(self, module: nn.Module) -> None:
        """Buffers come without values from the meta device."""
        if isinstance(module, BagEncoder):
            init.ones_(module.idf)
        elif isinstance(module, ItemEncoder):
            init.zeros_(module.features)
        elif isinstance(module, DocidIndex):
            for buffer in module.buffers(recurse=False):
                init.zeros_(buffer)
