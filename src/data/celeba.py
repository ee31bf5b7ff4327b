"""CelebA: 202,599 aligned face images (178x218 JPEG) with 40 binary attributes and a fixed split.

Liu, Luo, Wang, Tang: Deep Learning Face Attributes in the Wild, ICCV 2015. For non-commercial
research only. https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html

The official files and the common re-uploads are read as they are: annotations as .txt or .csv, with
-1/1 or 0/1, beside the images or in the folders `Anno/` and `Eval/`; images in `img_align_celeba/`,
nested in it once more, in `Img/`, or in `img_align_celeba.zip`; as JPEG or, re-saved, as PNG.
"""

import hashlib
import shlex
from pathlib import Path

import numpy as np

from src.data.images import ImageFiles, without_bad_images
from src.data.split import split_by_file
from src.data.table import SPLITS, Table, cached_table
from src.data.text_files import AGAIN, check_names, first_lines, read_text_table, shortened
from src.io import UserError, expand

# The 40 binary attributes of CelebA, in the order of list_attr_celeba.txt.
ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones",
    "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin",
    "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair",
    "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
IMAGES = "img_align_celeba"
SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".bmp")


def find_root(root: str | Path) -> Path:
    """Return the folder of the data set: `root` itself or the `celeba/` in it.

    Raises:
        UserError: there is no CelebA; the message says how to get it.
    """
    root = expand(root)
    for folder in (root, root / "celeba"):
        if _find_annotations(folder, "list_attr_celeba"):
            return folder
    get = shlex.join(["python", "-m", "scripts.prepare_data", "--download", "--root", str(root)])
    raise UserError(
        f"no CelebA in '{root}': list_attr_celeba.txt (or .csv) is neither there nor in Anno/ or "
        f"celeba/. Get it with `{get}` or by hand from {HOMEPAGE} (list_attr_celeba.txt, "
        f"list_eval_partition.txt, {IMAGES}.zip), name its folder with exp.dataset.root=..., "
        "or try drawn faces: exp/dataset=synthetic"
    )


def _find_annotations(root: Path, stem: str) -> Path | None:
    for folder in ("", "Anno", "Eval"):
        for suffix in (".txt", ".csv"):
            if (root / folder / (stem + suffix)).is_file():
                return root / folder / (stem + suffix)
    return None


class CelebALayout:
    """A folder with CelebA's files.

    Attributes:
        root: its folder.
        cache_folder: where all that is derived from it is kept.
        crop: side of the central square that is used of each image; see `Pixels`.
        frame: (height, width) of all images; None for any.
    """

    crop = 178
    frame = (218, 178)

    def __init__(self, root: str | Path, cache_dir: str | Path | None):
        self.root, self.cache_dir = find_root(root), cache_dir
        self.cache_folder = cache_folder(self.root, cache_dir)

    def table(self) -> Table:
        """Return all rows, except those of images that `prepare_data --skip_bad` left out."""
        return load_annotations(self.root, self.cache_dir)

    def files(self, names: np.ndarray) -> ImageFiles:
        """Find the images."""
        return find_images(self.root)


def cache_folder(root: str | Path, cache_dir: str | Path | None = None) -> Path:
    """Return where all that is derived from `root` is kept: one folder per data set.

    Args:
        cache_dir: default `data/cache`.
    """
    tag = hashlib.sha256(str(find_root(root).resolve()).encode()).hexdigest()[:12]
    return expand(cache_dir or "data/cache") / tag


def find_images(root: str | Path) -> ImageFiles:
    """Return the image files of a CelebA folder.

    Raises:
        UserError: there are none.
    """
    root = find_root(root)
    for folder in (root, root / "Img"):
        for path in (folder / IMAGES / IMAGES, folder / IMAGES):
            files = path.iterdir() if path.is_dir() else ()
            suffix = next((file.suffix for file in files if file.suffix in SUFFIXES), None)
            if suffix:  # the table says .jpg
                return ImageFiles(path, None if suffix == ".jpg" else suffix)
        if (folder / f"{IMAGES}.zip").is_file():
            return ImageFiles(folder / f"{IMAGES}.zip")
    raise UserError(
        f"no images in '{root}': neither {IMAGES}/ nor {IMAGES}.zip is there; "
        f"get {IMAGES}.zip from {HOMEPAGE}"
    )


def load_annotations(root: str | Path, cache_dir: str | Path | None = None) -> Table:
    """Return all annotations, except those of images that `prepare_data --skip_bad` left out.

    Raises:
        UserError: a missing, empty or malformed file, with line numbers.
    """
    root = find_root(root)
    files = [_find_annotations(root, stem) for stem in ("list_attr_celeba", "list_eval_partition")]
    if files[1] is None:
        raise UserError(
            f"{root}: list_eval_partition.txt (or .csv) is missing; get it from {HOMEPAGE}"
        )
    folder = cache_folder(root, cache_dir)
    table = cached_table(folder / "annotations.npz", files, lambda: parse_annotations(*files))
    return without_bad_images(table, lambda: find_images(root), folder)


def parse_annotations(attribute_file: Path, partition_file: Path) -> Table:
    """Read both files and join their rows by file name."""
    names, codes, columns = _read_attributes(attribute_file)
    split, splits, extra = split_by_file(names, partition_file, attribute_file)
    if len(splits) > len(SPLITS):
        raise UserError(
            f"{partition_file}: the split is '{splits[-1]}': use 0, 1, 2 or train, val, test"
        )
    if len(extra):
        raise UserError(
            f"{len(extra):,} rows of {partition_file.name} have no row in {attribute_file.name}: "
            f"{shortened(extra)}; both files must name the same images: {AGAIN}"
        )
    return Table(names, split, codes, columns)


def _read_attributes(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return names (N,), codes (N, C) int8 and the columns, known ones in the official order."""
    import pandas as pd  # slow to import, and not needed for the cached copy

    lines = first_lines(path, 2)
    announced = int(lines[0]) if lines[0].isdigit() else None
    if path.suffix == ".csv":
        frame = read_text_table(path)
        if "image_id" in frame:
            frame = frame.drop(columns="Unnamed: 0", errors="ignore")  # row numbers of pandas
        else:
            frame = frame.rename(columns={frame.columns[0]: "image_id"})
    else:  # the header lacks a name for the first column
        header = 0 if announced is None else 1
        names = ["image_id", *lines[header].split()] if lines[header:] else ["image_id"]
        frame = read_text_table(path, names=names, header=header)
    if announced not in (None, len(frame)):
        raise UserError(
            f"{path}: the first line says {announced} rows, but {len(frame)} follow: {AGAIN}"
        )
    check_names(path, frame["image_id"])
    columns = [name for name in ATTRIBUTES if name in frame]
    if not columns:
        raise UserError(
            f"{path}: none of CelebA's 40 attributes is in its header: {AGAIN}, or use "
            f"exp/dataset=table for other data"
        )
    columns += [name for name in frame if name not in (*columns, "image_id")]
    cells = frame[columns].apply(pd.to_numeric, errors="coerce").to_numpy()  # (N, C)
    low = 0 if np.count_nonzero(cells == 0) > np.count_nonzero(cells == -1) else -1
    wrong = np.argwhere((cells != low) & (cells != 1))
    if len(wrong):
        row, column = wrong[0]
        others = f" ({len(wrong) - 1:,} other cells are wrong, too)" if len(wrong) > 1 else ""
        raise UserError(
            f"{path}: {columns[column]} of {frame['image_id'].iloc[row]} is "
            f"'{frame[columns[column]].iloc[row]}': use {low} or 1{others}"
        )
    return frame["image_id"].to_numpy(str), (cells == 1).astype(np.int8), tuple(columns)
