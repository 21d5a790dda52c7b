"""The one tokenizer: BM25, embedder, relevance gate and extractive answerer agree on what a term is.

Guarantees the same terms for the same text on every platform and in every process. It is part of the index format: a
change here changes ``INDEX_FORMAT``, because an index must be read with the tokenizer that it was built with.
It knows English stop-words and a light English stemmer; other languages are matched by their exact words, and scripts
without spaces (CJK) by overlapping pairs of characters. It is not a linguist.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

TERM_MAX: Final = 64
"""Longer runs of letters are cut: no real word, but a way to blow up an index."""

STOP_WORDS: Final = frozenset(
    """
    a about above after again against all also am an and any are aren't as at be because been before being below between
    both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each either else ever
    every few for from further get gets got had hadn't has hasn't have haven't having he her here here's hers herself
    him himself his how how's i i'd i'll i'm i've if in into is isn't it it's its itself just let let's like may me
    might more most much must mustn't my myself no nor not of off on once one only or other ought our ours ourselves out
    over own please s same shall shan't she should shouldn't so some such t tell than that that's the their theirs them
    themselves then there there's these they they're this those through to too under until up upon us very was wasn't we
    we're were weren't what what's when when's where where's which while who who's whom whose why why's will with within
    without won't would wouldn't yes you you'd you'll you're you've your yours yourself yourselves many
    """.split()  # noqa: SIM905 -- a table of words reads better than a list of quoted strings
)

# A number with separators, or a run of letters and digits with inner apostrophes.
_WORD: Final = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['\u2019][^\W_]+)*")
_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+")
# Possessive and anchored at a word's beginning: linear on any input.
_CODE: Final = re.compile(r"(?<![^\W_])[^\W_]++(?:-[^\W_]++)+")
_DIGIT: Final = re.compile(r"\d")
_THOUSANDS: Final = re.compile(r"^\d{1,3}(?:,\d{3})+(?:\.\d+)?$")
_VOWEL: Final = re.compile(r"[aeiouy]")


def estimate_tokens(text: str) -> int:
    """About how many model tokens a text has: four for three words, and never less than one for six characters.

    A rule of thumb for English with byte-pair vocabularies; the second bound keeps scripts without spaces honest.
    """
    words = len(text.split())
    return max(-(-words * 4 // 3), -(-len(text) // 6))


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A light stem of one lower-case word: plural, -ed, -ing and a final e are removed.

    After D. Harman, "How effective is suffixing?" (JASIS 42(1), 1991), whose S stemmer it extends; deliberately weaker
    than Porter's, because an over-stemmed product name is a wrong answer.
    """
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("'s"):
        word = word[:-2]
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        base = word.removesuffix(suffix)
        if base != word and len(base) >= 3 and _VOWEL.search(base):
            word = base
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    if word.endswith("y") and len(word) > 3:
        word = word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def words(text: str) -> Iterator[str]:
    """Lower-case words and numbers in order, stop-words included, possessive and thousands separators removed."""
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")):
        word = match.group()[:TERM_MAX]
        if _THOUSANDS.match(word):
            word = word.replace(",", "")
        yield word.removesuffix("'s")


def terms(text: str) -> list[str]:
    """The index terms of a text, in order: stems of its words without stop-words, CJK pairs, joined codes.

    ``RX-200`` gives ``rx``, ``200`` and ``rx200``, so that it is found however it is written.
    """
    found: list[str] = []
    for word in words(text):
        if word in STOP_WORDS:
            continue
        if _CJK.search(word):
            found.extend(_pairs(word))
        else:
            found.append(stem(word))
    codes = (match.group() for match in _CODE.finditer(text))
    found.extend(code.casefold().replace("-", "")[:TERM_MAX] for code in codes if _DIGIT.search(code))
    return found


def _pairs(word: str) -> Iterator[str]:
    for run in _CJK.findall(word):
        if len(run) == 1:
            yield run
        for position in range(len(run) - 1):
            yield run[position : position + 2]
    for rest in _CJK.split(word):
        if rest:
            yield stem(rest)
