"""Check a data set, and decode its images once into the cache; CelebA can be downloaded.

    python -m scripts.prepare_data --root data/celeba --download
    python -m scripts.prepare_data --dataset table --root data/mine
    python -m scripts.prepare_data --dataset waterbirds --root data/waterbirds

Can be stopped and started again. Training builds the same cache if it is missing.
"""

import argparse
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from src.config.compose import load_config
from src.config.dataset import dataset_options
from src.config.overrides import CONFIG_DIR, quote_override
from src.data.adapters import ADAPTERS, Adapter
from src.data.celeba import HOMEPAGE
from src.data.dataset import Dataset, open_dataset
from src.data.groupings import parse_grouping
from src.data.images import BadImages, leave_out
from src.data.sources import Records
from src.data.table import SPLITS, Table
from src.data.text_files import shortened
from src.io import UserError, atomic_path, exit_on_user_error, expand, first_line

NEEDED = ("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba.zip")
EPILOG = """A cache is built again if the name, size or time of an image file changes. If images
were replaced without such a change (same size, time set back), use --rebuild."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare_data", description=__doc__.splitlines()[0], epilog=EPILOG
    )
    add = parser.add_argument
    known = sorted(path.stem for path in (CONFIG_DIR / "exp" / "dataset").glob("*.yaml"))
    known.remove("synthetic")
    add("--dataset", choices=known, default="celeba", help="its layout, as in exp/dataset=")
    add("--root", type=expand, help="its folder (default: that of exp/dataset)")
    add("--metadata", help="the table's file, as in exp.dataset.metadata")
    add("--crop", help="as exp.dataset.crop: a number, square or full")
    add("--resize", help="as exp.dataset.resize: a number, or [height,width]")
    add("--cache_dir", type=expand, help="where decoded images are kept")
    add("--splits", nargs="+", default=list(SPLITS))
    add("--target_resolution", nargs=2, type=int, default=[224, 224], metavar=("HEIGHT", "WIDTH"))
    add(
        "--data_augmentation",
        "--full_frame",
        action="store_true",
        help="keep whole frames of the train split, for random crops",
    )
    add("--download", action="store_true", help="download what is missing first (1.4 GB)")
    add("--skip_bad", action="store_true", help="leave missing and unreadable images out")
    add("--rebuild", action="store_true", help="decode again although nothing seems to change")
    add("--workers", type=int, help="threads (default: one per core)")
    return parser.parse_args(argv)


def download(root: Path) -> None:
    """Download the annotations and the archive of images with torchvision's downloader.

    Files that exist with the right checksum are kept.

    Raises:
        UserError: no network, no downloader, or a refusal by the host.
    """
    from torchvision.datasets import CelebA  # slow to import
    from torchvision.datasets.utils import download_file_from_google_drive

    if find_spec("gdown") is None:
        raise UserError("--download needs gdown: `pip install gdown`")
    folder = expand(root)
    if folder.name != CelebA.base_folder and not (folder / NEEDED[0]).exists():
        folder = folder / CelebA.base_folder
    for file_id, md5, name in CelebA.file_list:
        if name not in NEEDED:
            continue
        try:
            download_file_from_google_drive(file_id, folder, name, md5)
        except Exception as error:  # the downloader raises whatever its libraries raise
            raise UserError(
                f"{name} could not be downloaded ({first_line(error)}). Is this machine online? "
                "Google Drive also refuses when too many people download a file: try again in some "
                f"hours, or get {', '.join(NEEDED)} by hand from {HOMEPAGE} and put them into "
                f"{folder}"
            ) from None


def print_columns(table: Table) -> None:
    """Print what can be a task or an attribute, with the classes and how often each occurs."""
    for column, names in zip(table.columns, table.classes):
        codes = table.column(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(names))
        shown = [f"{name} {count:,}" for name, count in zip(names[:8], counts)]
        more = f", and {len(names) - 8} more" if len(names) > 8 else ""
        missing = np.count_nonzero(codes < 0)
        note = f"; missing {missing:,}" if missing else ""
        print(f"  {column}: {', '.join(shown)}{more}{note}")
    for reason in table.unusable.values():
        print(f"  {reason}")


def print_group_counts(dataset: Dataset, adapter: Adapter) -> None:
    """Print the sizes of the groups, and whether they are those that were published."""
    grouping = parse_grouping(adapter.grouping, dataset.columns)
    for split, published in zip(SPLITS, adapter.counts):
        groups = grouping.group_ids(dataset.table.of_split(split))
        counts = np.bincount(groups[groups >= 0], minlength=grouping.num_groups).tolist()
        same = counts == list(published)
        verdict = "as published" if same else f"NOT as published ({', '.join(map(str, published))})"
        print(f"  {grouping.name} {split}: {', '.join(map(str, counts))}, {verdict}")


def print_sizes(sizes: np.ndarray) -> None:
    """Print the most frequent sizes (N, 2) of pictures."""
    counts = Counter(map(tuple, sizes.tolist())).most_common()
    shown = [f"{width}x{height} ({count:,})" for (height, width), count in counts[:5]]
    rest = f" and {len(counts) - 5:,} other sizes" if len(counts) > 5 else ""
    print(f"  pictures of {', '.join(shown)}{rest} pixels, width x height")


def write_sheet(records: Records, path: Path, count: int = 12, columns: int = 6) -> None:
    """Write a JPEG with a dozen prepared pictures of a split, as the network sees them."""
    positions = np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int))
    pictures = records.read(positions)
    height, width = pictures.shape[1:3]
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height))
    for number, picture in enumerate(pictures):
        place = (number % columns * width, number // columns * height)
        sheet.paste(Image.fromarray(picture), place)
    with atomic_path(path) as temporary:
        sheet.save(temporary, "JPEG", quality=90)
    print(f"{path}: {len(pictures)} prepared pictures to look at")


def build(args: argparse.Namespace, dataset: Dataset, split: str) -> Records:
    """Build or open the cache of a split; with --skip_bad from the images that can be read."""
    options = {"workers": args.workers, "rebuild": args.rebuild}
    try:
        return dataset.images(split, args.data_augmentation and split == "train", **options)
    except BadImages as error:
        if not args.skip_bad:
            raise
        leave_out(dataset.files, dataset.cache_folder, error.bad)
        names = shortened(sorted(error.bad))
        print(f"{len(error.bad):,} missing or unreadable images are left out: {names}")
    return build(args, open_data(args), split)


def open_data(args: argparse.Namespace) -> Dataset:
    """Open the data set with the settings of its YAML."""
    height, width = args.target_resolution
    overrides = [f"exp/dataset={args.dataset}"]
    overrides += [f"exp.dataset.target_resolution=[{height},{width}]"]
    for key in ("root", "metadata", "cache_dir"):
        if getattr(args, key) is not None:
            overrides.append(quote_override(f"exp.dataset.{key}", str(getattr(args, key))))
    for key in ("crop", "resize"):
        if getattr(args, key) is not None:
            overrides.append(f"exp.dataset.{key}={getattr(args, key)}")
    return open_dataset(**dataset_options(load_config(overrides).dataset), workers=0)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.download:
        download(args.root or Path("data/celeba"))
    dataset = open_data(args)
    table, adapter = dataset.table, ADAPTERS.get(args.dataset)
    counts = ", ".join(f"{split} {len(table.of_split(split)):,}" for split in table.splits)
    print(f"{len(table):,} annotated images: {counts}")
    if args.dataset != "celeba":
        print_columns(table)
    if adapter is not None and adapter.counts:
        print_group_counts(dataset, adapter)
    for split in args.splits:
        records = build(args, dataset, split)
        size = records.path.stat().st_size
        print(f"{records.path}: {len(records):,} images, {size:,} bytes")
        print_sizes(records.sizes)
        if split == args.splits[0]:
            write_sheet(records, dataset.cache_folder / "sheet.jpg")


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from here")
