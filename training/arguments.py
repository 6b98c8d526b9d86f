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
        sparse_table_rows: A table of items or users with more rows than this learns sparsely: a
            step moves the rows that its batch has read and leaves all others as they are
            (`hf_genret.training.sparse_tables.RowAdamW`). Where a run cannot do so (several
            processes, DeepSpeed, fp16, an optimizer that is not AdamW) tables learn densely, and a
            warning says so. 0 for never.
    """

    search_beams: int = field(default=0, metadata={"help": "Leaves an evaluation visits."})
    save_stages: bool = field(default=True, metadata={"help": "Save at every stage border."})
    sparse_table_rows: int = field(
        default=100_000, metadata={"help": "Rows above which a table learns sparsely."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.remove_unused_columns = False
        self.ddp_broadcast_buffers = False
        if vars(self)["ddp_find_unused_parameters"] is None:
            self.ddp_find_unused_parameters = True
