"""Arguments of a run, beside those that every stage of the curriculum sets for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class GenRetTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with what a curriculum needs.

    Learning rate, batch size, epochs, warm-up and weight decay come from each stage and replace
    the values given here.

    Attributes:
        search_beams: Leaves that an evaluation visits; 0 takes the model's own number.
        save_stages: Whether a checkpoint is written at every stage border, to resume from.
    """

    search_beams: int = field(default=0, metadata={"help": "Leaves an evaluation visits."})
    save_stages: bool = field(default=True, metadata={"help": "Save at every stage border."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.remove_unused_columns = False
        self.ddp_broadcast_buffers = False
        if vars(self)["ddp_find_unused_parameters"] is None:
            self.ddp_find_unused_parameters = True
