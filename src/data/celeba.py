"""CelebA: 202,599 aligned face images (178x218 JPEG) with 40 binary attributes and a fixed split.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. For non-commercial
research only. https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

Read as they come: the official `list_attr_celeba.txt` and `list_eval_partition.txt` or the `.csv`
forms of the common re-uploads; images in `img_align_celeba/`, in the nested
`img_align_celeba/img_align_celeba/`, or still inside `img_align_celeba.zip`.
"""

import contextlib
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np

from src.data.layout import ImageFiles, annotation_file, cache_folder, find_root
from src.data.table import Table
from src.data.tables import FileRows, TextTable, shortened
from src.io import (
    DAMAGE,
    UserError,
    atomic_path,
    did_you_mean,
    exclusive,
    load_arrays,
    read_json,
    write_json,
)

# The 40 binary attributes of CelebA, in the order of list_attr_celeba.txt.
ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
_CACHE_VERSION = 2
BAD_IMAGES = {"*": {"reason": str, "fingerprint": str}}


def load_annotations(root: str | Path, cache_dir: str | Path | None = None) -> Table:
    """All annotations under `root`, but for the images that `prepare_data --skip_bad` gave up on.

    A binary copy is kept in the cache folder; it is used only while size and mtime of the source
    files are those it was made from and its checksums hold.

    Raises:
        UserError: a missing, empty or malformed file, with line numbers.
    """
    root = find_root(root)
    attribute_file, partition_file = (
        annotation_file(root, stem) for stem in ("list_attr_celeba", "list_eval_partition")
    )
    stats = [(path.name, path.stat()) for path in (attribute_file, partition_file)]
    source = [_CACHE_VERSION, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]
    path = cache_folder(root, cache_dir) / "annotations.npz"
    annotations = _read_cached(path, json.dumps(source))
    if annotations is None:
        annotations = parse_annotations(attribute_file, partition_file)
        with contextlib.suppress(UserError):  # only a convenience: go on without it
            _write_cached(path, json.dumps(source), annotations)
    return _without_bad_images(annotations, root, cache_dir)


def parse_annotations(attribute_file: Path, partition_file: Path) -> Table:
    """Read both files and join their rows by file name."""
    table, partition = _read_attributes(attribute_file), _read_partition(partition_file)
    order = np.argsort(partition.names)
    at = np.searchsorted(partition.names, table.names, sorter=order)
    at = order[np.minimum(at, len(order) - 1)]  # (N,) row of the partition, where there is one
    lonely = table.names[partition.names[at] != table.names]
    extra = np.setdiff1d(partition.names, table.names, assume_unique=True)
    problems = [
        f"{len(names)} rows of {here.name} have no row in {there.name}: {shortened(names)}"
        for names, here, there in (
            (lonely, attribute_file, partition_file),
            (extra, partition_file, attribute_file),
        )
        if len(names)
    ]
    if problems:
        raise UserError([*problems, "both files must name the same images: fetch them again"])
    split = partition.values[at, 0].astype(np.uint8)
    return Table(table.decoded_names(), split, table.values, ATTRIBUTES)


def _read_attributes(path: Path) -> FileRows:
    """The attribute table with values 0/1 and columns in the order of ATTRIBUTES."""
    text, csv = TextTable(path), path.suffix == ".csv"
    announced = text.line(0)[0] if not csv and len(text.line(0)) == 1 else None
    header_at = 0 if announced is None else 1
    columns = text.line(header_at)
    if csv:
        columns = columns[1:]  # image_id
    _check_columns(path, columns)
    table = text.rows(skip=header_at + 1, columns=len(columns))
    if announced is not None and announced != str(len(table.names)):
        raise UserError(
            f"{path}: its first line says {announced} rows, {len(table.names)} follow: fetch it "
            "again"
        )
    zero_one = csv and np.count_nonzero(table.values == 0) > np.count_nonzero(table.values == -1)
    table.check_values((0, 1) if zero_one else (-1, 1), columns)
    order = [columns.index(name) for name in ATTRIBUTES]
    ordered = np.ascontiguousarray((table.values == 1).view(np.int8)[:, order])
    return FileRows(path, table.names, ordered, table.lines)


def _check_columns(path: Path, columns: list[str]) -> None:
    problems = [
        f"{path}: unknown attribute column '{name}'{did_you_mean(name, ATTRIBUTES)}"
        for name in [name for name in columns if name not in ATTRIBUTES][:10]
    ]
    problems += [
        f"{path}: attribute column '{name}' "
        + ("is missing" if name not in columns else "is there twice")
        for name in ATTRIBUTES
        if columns.count(name) != 1
    ][:10]
    if problems:
        raise UserError(problems)


def _read_partition(path: Path) -> FileRows:
    text = TextTable(path)
    table = text.rows(skip=1 if path.suffix == ".csv" else 0, columns=1)
    table.check_values((0, 1, 2), ["partition"])
    return table


def _read_cached(path: Path, source: str) -> Table | None:
    """The binary copy, or None where it is absent, damaged or made from other files."""
    try:
        arrays = load_arrays(path)
        if str(arrays["source"]) != source:
            return None
        return Table(arrays["names"], arrays["split"], arrays["codes"], ATTRIBUTES)
    except DAMAGE:
        return None


def _write_cached(path: Path, source: str, annotations: Table) -> None:
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            source=np.array(source),
            names=annotations.names,
            codes=annotations.codes,
            split=annotations.split,
        )


def bad_images_file(root: str | Path, cache_dir: str | Path | None = None) -> Path:
    """The list of images to do without: {name: {"reason", "fingerprint"}}."""
    return cache_folder(root, cache_dir) / "bad_images.json"


def leave_out(root: str | Path, bad: dict[str, str], cache_dir: str | Path | None = None) -> None:
    """Add {name: reason} to the list: `load_annotations` leaves these rows out from now on, each
    until its image changes. Of several processes that do so at once, each waits for the other."""
    path, images = bad_images_file(root, cache_dir), ImageFiles(root)
    with exclusive(path.with_suffix(".lock"), f"waiting for another process to write {path}"):
        entries = read_json(path, BAD_IMAGES) if path.is_file() else {}
        for name, reason in bad.items():
            entries[name] = {"reason": reason, "fingerprint": images.fingerprint([name])}
        write_json(path, entries)


def _without_bad_images(annotations: Table, root: Path, cache_dir: str | Path | None) -> Table:
    """Drop the rows of listed images, but for those that have been replaced since."""
    path = bad_images_file(root, cache_dir)
    if not path.is_file():
        return annotations
    images = ImageFiles(root)
    bad = [
        name
        for name, entry in read_json(path, BAD_IMAGES).items()
        if images.fingerprint([name]) == entry["fingerprint"]
    ]
    keep = ~np.isin(annotations.names, bad)
    if not keep.all():
        dropped = len(keep) - np.count_nonzero(keep)
        _say_once(f"{dropped} missing or unreadable images are left out, see {path}")
    return annotations.select(keep)


@cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)
