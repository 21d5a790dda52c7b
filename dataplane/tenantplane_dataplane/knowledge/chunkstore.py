"""The texts of an index: JSON records one after another and an array of offsets, both mapped and read by row."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tenantplane_dataplane.knowledge.bm25 import map_array
from tenantplane_dataplane.knowledge.inert import ChunkRecord

RECORDS_NAME: Final = "chunks.jsonl"
OFFSETS_NAME: Final = "chunk-offsets.npy"
FILES: Final = (RECORDS_NAME, OFFSETS_NAME)


def build_chunk_store(records: Iterable[ChunkRecord], folder: Path) -> None:
    """Write the records in row order."""
    encoder = msgspec.json.Encoder()
    offsets = [0]
    with (folder / RECORDS_NAME).open("xb") as file:
        for record in records:
            offsets.append(offsets[-1] + file.write(encoder.encode(record) + b"\n"))
    np.save(folder / OFFSETS_NAME, np.array(offsets, dtype="<u8"), allow_pickle=False)


class ChunkStore:
    """Reads records by row; safe for threads. The mapping goes when the last user of the object goes."""

    def __init__(self, folder: Path, rows: int) -> None:
        """Map the files of a verified generation; ``ValueError`` when they do not fit together."""
        self._offsets = map_array(folder / OFFSETS_NAME, "<u8")
        with (folder / RECORDS_NAME).open("rb") as file:
            self._records = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._offsets) != rows + 1 or int(self._offsets[-1]) != len(self._records):
            raise ValueError("the chunk offsets do not span the records")
        self._decoder = msgspec.json.Decoder(ChunkRecord)

    def __getitem__(self, row: int) -> ChunkRecord:
        """The record of a row."""
        return self._decoder.decode(self._records[int(self._offsets[row]) : int(self._offsets[row + 1])])
