"""Controls: other ids under the same encoder, decoder and ranker, trained for comparison."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import save_file

from hf_genret.errors import CheckpointError
from hf_genret.modeling import GenRetModel
from hf_genret.sizes import entries_of
from hf_genret.tensor_files import read_tensors
from hf_genret.training.arguments import GenRetTrainingArguments
from hf_genret.training.batches import TrainingData
from hf_genret.training.curriculum import Stage
from hf_genret.training.genret_trainer import GenRetTrainer

FOLDER = "baselines"
_PARTS = ("decoder.", "heads.", "index.")


def train_control(
    model: GenRetModel,
    ids: str,
    args: GenRetTrainingArguments,
    data: TrainingData,
    stage: Stage,
) -> GenRetModel:
    """Give a copy of the model other ids and train a fresh decoder on them.

    Args:
        model: The finished model; encoder and ranker are kept, it is not changed.
        ids: `kmeans`, `rq` or `random`.
        args: Arguments of the run, with an output folder of its own.
        data: The same training pairs and dev queries.
        stage: The stage that trained the model's own decoder on its final ids.

    Returns:
        The copy, with an index and the model's ranker vectors.
    """
    control = copy.deepcopy(model)
    torch.manual_seed(args.seed)
    fresh = GenRetModel(copy.deepcopy(model.config))
    control.decoder, control.heads = fresh.decoder, fresh.heads
    stage = copy.deepcopy(stage)
    stage.name, stage.before, stage.after = f"control {ids}", {"ids": ids}, {}
    trainer = GenRetTrainer(control, args, data=data, stages=[stage])
    trainer.train(resume_from_checkpoint=True)
    control.set_vectors(model.vectors)
    return control


def save_control(control: GenRetModel, folder: str | Path, ids: str) -> None:
    """Write a control's own parts (decoder, heads, ids) below a checkpoint folder."""
    place = Path(folder) / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    parts = {
        name: value.contiguous()
        for name, value in control.state_dict().items()
        if name.startswith(_PARTS)
    }
    beside = place / f".{ids}.safetensors"
    save_file(parts, beside)
    beside.replace(place / f"{ids}.safetensors")


def load_control(model: GenRetModel, folder: str | Path, ids: str) -> GenRetModel:
    """A copy of the model with a control's decoder, heads and ids.

    Raises:
        CheckpointError: When the checkpoint has no such control, or a damaged one.
    """
    path = Path(folder) / FOLDER / f"{ids}.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no control '{ids}'; train with controls=[{ids}].")
    parts = read_tensors(path)
    header, own = entries_of(parts), entries_of(model.state_dict())
    for name in sorted(name for name in own if name.startswith(_PARTS)):
        fits = name in header and (name.startswith("index.") or header[name] == own[name])
        if not fits:
            raise CheckpointError(
                f"{path}: '{name}' is missing or of another size than the model's."
            )
    control = copy.deepcopy(model)
    try:
        control.load_state_dict({n: v for n, v in parts.items() if n in own}, strict=False)
    except (RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path}: the control does not fit the model ({error}).") from error
    wrong = control.index.check()
    if wrong is None and control.config.num_documents > model.config.num_documents:
        wrong = "its ids name documents that the model does not have"
    if wrong is not None:
        raise CheckpointError(f"{path}: {wrong}.")
    control.set_vectors(model.vectors)
    return control
