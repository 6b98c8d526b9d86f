"""`hf-genret demo`: the page of a checkpoint, on this machine."""


def demo() -> None: ...
