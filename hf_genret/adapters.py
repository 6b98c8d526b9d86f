"""LoRA adapters: a small folder that makes a trained retriever of the base it was trained on.

An adapter folder holds PEFT's `adapter_config.json` and `adapter_model.safetensors`, and beside
them what training made besides LoRA: `trained.safetensors` with every tensor that the base lacks or
has otherwise (heads, decoder, id index), vectors, documents and tokenizer. The base's own weights
are not in it; a checksum of those that are needed says whether a base is the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel

from hf_genret import checkpoints
from hf_genret.encoder_folder import transformer_of
from hf_genret.errors import CheckpointError, ConfigError
from hf_genret.files import atomic_folder
from hf_genret.manifest import write_manifest
from hf_genret.modeling import GenRetModel
from hf_genret.modeling.vectors_genret import save_vectors
from hf_genret.sealed import read_object
from hf_genret.sizes import check_sizes, check_vectors, entries_of
from hf_genret.tensor_files import checksum, read_metadata, read_tensors

if TYPE_CHECKING:
    from peft import LoraConfig

    from hf_genret.retriever import GenRetriever

CONFIG_FILE = "adapter_config.json"
LORA_FILE = "adapter_model.safetensors"
TRAINED_FILE = "trained.safetensors"
FOLDER = "adapter"
"""Where a checkpoint that was trained with LoRA keeps its adapter."""

BACKBONE = "encoder.query.backbone."
_PEFT = "base_model.model."  # before every name in PEFT's files
_CARD = """---
library_name: hf-genret
{base_model}tags: [generative-retrieval, genret, lora]
---

# A LoRA adapter of a generative retriever

Low-rank updates for {base}, with the id index, vectors and documents of the retriever that they
were trained for.

```python
from hf_genret import GenRetriever

retriever = GenRetriever.from_pretrained("FOLDER OR OWNER/NAME")  # base="..." where the base moved
retriever.save_pretrained("merged")  # a whole checkpoint, which transformers alone opens
```
"""


@dataclass
class Base:
    """What an adapter stands on.

    Attributes:
        kind: `encoder`, a text encoder that transformers knows, or `checkpoint`, one of ours.
        name: A folder, or `owner/name` on the Hub.
    """

    kind: Literal["encoder", "checkpoint"]
    name: str

    def tensors(self) -> dict[str, Tensor]:
        """Its weights, named as in a `GenRetModel`.

        Raises:
            CheckpointError: When nothing can be loaded there.
        """
        if self.kind == "checkpoint":
            folder = checkpoints.locate(self.name)
            return dict(checkpoints.load_model(folder, None, "cpu").state_dict())
        try:
            encoder = AutoModel.from_pretrained(
                self.name,
                trust_remote_code=False,
                dtype=torch.float32,
                subfolder=transformer_of(self.name),
            )
        except (ConfigError, OSError, ValueError, KeyError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            message = f"the adapter's base, a text encoder, could not be loaded ({reason})"
            raise CheckpointError(f"{self.name}: {message}") from error
        return {BACKBONE + name: value for name, value in encoder.state_dict().items()}


@dataclass
class Lora:
    """Low-rank matrices apart from the model they were trained in.

    Attributes:
        config: PEFT's, with the full name of every adapted map.
        tensors: By their names in the model.
    """

    config: LoraConfig
    tensors: dict[str, Tensor]


# ---- in a model -------------------------------------------------------------------------------


def has_lora(model: GenRetModel) -> bool:
    """Whether some of the model's maps are adapted and not merged."""
    return any("lora_" in name for name, _ in model.named_parameters())


def take_lora(model: GenRetModel) -> Lora | None:
    """A copy of the matrices in a model, None where it has none."""
    if not has_lora(model):
        return None
    own: Any = model
    tensors = {
        name: value.detach().cpu().clone()
        for name, value in model.state_dict().items()
        if "lora_" in name
    }
    return Lora(own.peft_config["default"], tensors)


def put_lora(model: GenRetModel, lora: Lora) -> None:
    """Adapt a model's maps with matrices that were trained before.

    Raises:
        ValueError: When they are of other maps or sizes.
    """
    from peft import inject_adapter_in_model

    inject_adapter_in_model(lora.config, model)
    wanted = {name for name in model.state_dict() if "lora_" in name}
    if wanted != set(lora.tensors):
        raise ValueError(f"matrices are of other maps: {min(wanted ^ set(lora.tensors))}")
    try:
        model.load_state_dict(lora.tensors, strict=False)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def merge_lora(model: nn.Module) -> None:
    """Fold LoRA into the weights of a model or of a part of one; without it nothing changes."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    for name, module in adapted:
        module.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


# ---- as a folder ------------------------------------------------------------------------------


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole checkpoint."""
    return (folder / CONFIG_FILE).is_file() and (folder / TRAINED_FILE).is_file()


def save_adapter(
    folder: str | Path,
    retriever: GenRetriever,
    lora: Lora,
    base: Base,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter folder, whole or not at all.

    Args:
        folder: Where it goes.
        retriever: With LoRA merged.
        lora: What was merged.
        base: What it was trained on.
        facts: Entries of the manifest; the retriever's own by default.

    Raises:
        CheckpointError: When the base cannot be read.
        OSError: When the disk refuses.
    """
    model, known = retriever.model, base.tensors()
    adapted = {name.split(".lora_")[0] + ".weight" for name in lora.tensors}
    trained = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
        if name not in adapted and not _equal(value, known.get(name))
    }
    used = model.state_dict().keys() - trained.keys()
    metadata = {
        "format": "pt",
        "base": base.name,
        "base_kind": base.kind,
        "base_sha256": checksum({name: known[name] for name in used}),
    }
    with atomic_folder(folder) as fresh:
        lora.config.base_model_name_or_path = base.name
        lora.config.save_pretrained(str(fresh))
        matrices = {
            _PEFT + name.replace(".default.", "."): value.contiguous()
            for name, value in lora.tensors.items()
        }
        save_file(matrices, fresh / LORA_FILE, metadata={"format": "pt"})
        save_file(trained, fresh / TRAINED_FILE, metadata=metadata)
        model.config.to_json_file(str(fresh / "config.json"))
        save_vectors(model.vectors, None, str(fresh / checkpoints.VECTORS_FILE))
        if retriever.processing_class is not None:
            retriever.processing_class.save_pretrained(fresh)
        retriever.documents.save(fresh)
        on_hub = not Path(base.name).exists()
        card = _CARD.format(
            base=f"`{base.name}`" if on_hub else "the base that adapter_config.json names",
            base_model=f"base_model: {base.name}\n" if on_hub else "",
        )
        (fresh / "README.md").write_text(card, encoding="utf-8")
        facts = retriever.facts if facts is None else facts
        rest = {name: value for name, value in facts.items() if name not in ("seed", "data")}
        write_manifest(fresh, seed=facts.get("seed"), data=facts.get("data"), extra=rest)


def load_adapter(
    folder: Path,
    base: str | Path | None = None,
    *,
    dtype: torch.dtype | str | None = None,
    device: str | None = None,
    merge: bool = True,
) -> GenRetModel:
    """The model of an adapter folder on its base.

    Args:
        folder: As `save_adapter` writes it.
        base: Where the base is now; where it was in training by default.
        dtype: Of the weights; float32 by default.
        device: A GPU where there is one by default.
        merge: Fold LoRA into the weights. A model that is not merged cannot be saved as a whole
            checkpoint.

    Raises:
        CheckpointError: When the base is another one, or the folder is damaged.
    """
    from peft import LoraConfig

    facts = read_metadata(folder / TRAINED_FILE)
    ground = _ground(folder, facts, base)
    read_object(folder / CONFIG_FILE)
    try:
        lora = LoraConfig.from_pretrained(str(folder))
    except Exception as error:  # whatever values of other types make PEFT raise
        message = f"the adapter's settings cannot be read ({error})."
        raise CheckpointError(f"{folder / CONFIG_FILE}: {message}") from error
    trained, matrices = read_tensors(folder / TRAINED_FILE), read_tensors(folder / LORA_FILE)
    known = ground.tensors()
    model = GenRetModel(check_sizes(folder, entries_of({**known, **trained})))
    needed = model.state_dict().keys() - trained.keys()
    right = needed <= known.keys()
    if not right or checksum({name: known[name] for name in needed}) != facts["base_sha256"]:
        raise CheckpointError(
            f"{ground.name}: not the base of the adapter {folder}, which was trained on "
            f"{facts['base']}; the weights it stands on are others."
        )
    # PEFT's names to those in the model, which also say the adapter's name.
    named = {
        name.removeprefix(_PEFT).removesuffix(".weight") + ".default.weight": value
        for name, value in matrices.items()
    }
    try:
        model.load_state_dict({**{name: known[name] for name in needed}, **trained})
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {TRAINED_FILE} does not fit ({error}).") from error
    wrong = model.index.check()
    if wrong is not None:
        raise CheckpointError(f"{folder / TRAINED_FILE}: {wrong}.")
    vectors = folder / checkpoints.VECTORS_FILE
    check_vectors(vectors, model.config.num_documents, model.config.vector_dim)
    try:
        put_lora(model, Lora(lora, named))
    except Exception as error:  # whatever settings of other types make PEFT raise
        raise CheckpointError(f"{folder}: {LORA_FILE} does not fit ({error}).") from error
    model.open_vectors(str(vectors))
    if merge:
        merge_lora(model)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is not None:
        model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    model.eval()
    return model


def _ground(folder: Path, facts: Mapping[str, str], base: str | Path | None) -> Base:
    """What an adapter says that it stands on, or where that is now."""
    kinds: dict[str | None, Literal["encoder", "checkpoint"]]
    kinds = {"encoder": "encoder", "checkpoint": "checkpoint"}
    kind, name = kinds.get(facts.get("base_kind")), facts.get("base")
    if kind is None or not name or "base_sha256" not in facts:
        raise CheckpointError(f"{folder / TRAINED_FILE}: it does not say what its base is.")
    return Base(kind, name if base is None else str(base))


def _equal(one: Tensor, other: Tensor | None) -> bool:
    """Whether two tensors are the same to the last bit."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.cpu(), other.cpu())
