"""Read batches at random from a sparse 30 GB cache and say how much memory that took (JSON)."""

import json
import re
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

SIZE = 30e9  # bytes


def main(folder: Path, batches: int = 150, batch_size: int = 128) -> None:
    from src.data.batches import iterate_batches
    from src.data.cache import Records
    from src.data.decode import INDEX
    from src.data.pixels import Pixels

    pixels = Pixels((224, 224))
    record = int(np.prod(pixels.shape))
    count = int(SIZE // record)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".bin") as file:
        file.truncate(count * record)  # a hole: reads as zeros and takes no disk
        index = np.zeros(count, INDEX)
        index["crc"] = zlib.crc32(bytes(record))
        records = Records(Path(file.name), pixels, np.arange(count).astype(str), index)
        start = peak()
        rng = np.random.default_rng(0)
        order = [rng.integers(0, count, batch_size) for _ in range(batches)]
        for images, _ in iterate_batches(records, order):
            assert images.shape[0] == batch_size
    print(json.dumps({"start": start, "peak": peak(), "images": batches * batch_size}))


def peak() -> float:
    """The most memory this process has had resident, in GB; mapped files count."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9


if __name__ == "__main__":
    main(Path(sys.argv[1]))
