"""A value that is proposed, and why."""

from __future__ import annotations

from typing import Any

import msgspec


class Proposal(msgspec.Struct, frozen=True):
    """A value for ``params.yaml``.

    Attributes:
        key: sections and key, joined by dots, such as ``train.imgsz``.
        value: plain.
        why: the reason, on one line; it becomes the comment beside the value.
        sure: whether it may be written without asking; otherwise a person has to say yes.
        question: what to ask where it is not sure, such as ``Are L1 and R1 left and right of one thing?``.
        else_value: what is written if the answer is no, or nobody was asked.
        else_why: the comment beside that; empty: nothing is written.
    """

    key: str
    value: Any
    why: str
    sure: bool = True
    question: str = ""
    else_value: Any = None
    else_why: str = ""
