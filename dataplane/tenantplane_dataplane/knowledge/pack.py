"""Packing: which passages fit a model's context, in which order, without saying anything twice."""

from collections.abc import Sequence
from dataclasses import replace

from tenantplane_dataplane.knowledge.chunk import sentences
from tenantplane_dataplane.knowledge.retrieve import Passage
from tenantplane_dataplane.knowledge.tokenizer import estimate_tokens


def pack(passages: Sequence[Passage], budget: int) -> tuple[Passage, ...]:
    """The best passages whose texts together have at most ``budget`` estimated tokens.

    A passage that does not fit is left out and smaller ones after it may still come; only if the very first one does
    not fit is it cut, after a sentence where possible. Texts contained in one already packed are left out.
    """
    packed: list[Passage] = []
    used = 0
    for passage in passages:
        tokens = estimate_tokens(passage.text)
        if any(passage.index == other.index and passage.text in other.text for other in packed):
            continue
        if used + tokens <= budget:
            packed.append(passage)
            used += tokens
        elif not packed:
            cut = replace(passage, text=_cut(passage.text, budget))
            packed.append(cut)
            used += estimate_tokens(cut.text)
    return tuple(packed)


def _cut(text: str, budget: int) -> str:
    end = 0
    for _, sentence_end in sentences(text):
        if estimate_tokens(text[:sentence_end]) > budget:
            break
        end = sentence_end
    if end:
        return text[:end]
    words = text.split()
    return " ".join(words[: max(1, budget * 3 // 4)])[: max(1, budget * 6)]
