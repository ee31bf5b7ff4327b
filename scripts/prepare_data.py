"""Check CelebA, download it if asked to, and decode its images once into the cache.

    python -m scripts.prepare_data --root data/celeba
    python -m scripts.prepare_data --root data/celeba --download

Can be stopped and started again. Training builds the same cache if it is missing.
"""

import argparse
import hashlib
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from src.data.cache import Records
from src.data.celeba import HOMEPAGE, find_root
from src.data.dataset import Dataset
from src.data.decode import BadImages, check_images
from src.data.images import leave_out, read_bad_images
from src.data.table import SPLITS
from src.data.text_files import shortened
from src.io import UserError, exit_on_user_error, expand

COMPLETE = 202_599  # images of the official data set
NEEDED = ("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba.zip")
EPILOG = """A cache is built again if the name, size or time of an image file changes. If images
were replaced without such a change (same size, time set back), use --rebuild."""


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare_data", description=__doc__.splitlines()[0], epilog=EPILOG
    )
    add = parser.add_argument
    add("--root", type=expand, default=Path("data/celeba"), help="the CelebA folder, or its parent")
    add(
        "--cache_dir", type=expand, default=Path("data/cache"), help="where decoded images are kept"
    )
    add("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    add(
        "--target_resolution",
        nargs=2,
        type=_positive,
        default=[224, 224],
        metavar=("HEIGHT", "WIDTH"),
        help="of the cropped images",
    )
    add(
        "--data_augmentation",
        "--full_frame",
        action="store_true",
        help="keep whole frames of the train split, for random crops",
    )
    add("--download", action="store_true", help="download what is missing first (1.4 GB)")
    add("--skip_bad", action="store_true", help="leave missing and unreadable images out")
    add("--check", action="store_true", help="decode every image, write no cache")
    add("--rebuild", action="store_true", help="decode again although nothing seems to change")
    add("--workers", type=_positive, default=None, help="processes (default: one per core)")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': use a whole number of at least 1")
    return int(text)


def download(root: Path) -> None:
    """Download the annotations and the archive of images with torchvision's downloader.

    Files that exist with the right checksum are kept.

    Raises:
        UserError: no network, no downloader, or a refusal by the host.
    """
    from torchvision.datasets import CelebA  # slow to import
    from torchvision.datasets.utils import download_file_from_google_drive

    folder = expand(root)
    if folder.name != CelebA.base_folder and not (folder / NEEDED[0]).exists():
        folder = folder / CelebA.base_folder
    for file_id, md5, name in CelebA.file_list:
        if name not in NEEDED:
            continue
        try:
            download_file_from_google_drive(file_id, folder, name, md5)
        except Exception as error:  # the downloader raises whatever its libraries raise
            if find_spec("gdown") is None:
                raise UserError("--download needs gdown: `pip install gdown`") from None
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise UserError(
                f"{name} could not be downloaded ({reason[0]}). Is this machine online? Google "
                "Drive also refuses when too many people download a file: try again in some hours, "
                f"or get {', '.join(NEEDED)} by hand from {HOMEPAGE} and put them into {folder}"
            ) from None


def check_checksums(root: Path) -> None:
    """Compare the files of a complete set with the official MD5s, and print the result."""
    from torchvision.datasets import CelebA

    for _, wanted, name in CelebA.file_list:
        path = root / name
        if name in NEEDED and path.is_file():
            digest = hashlib.md5(usedforsecurity=False)
            with path.open("rb") as file:
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
            found = digest.hexdigest()
            verdict = "as published" if found == wanted else f"NOT as published (MD5 {found})"
            print(f"{path}: {verdict}")


def print_counts(dataset: Dataset) -> None:
    """Print how many rows there are, and how many image files without a row."""
    table = dataset.table
    counts = ", ".join(f"{split} {len(table.of_split(split)):,}" for split in SPLITS)
    print(f"{len(table):,} annotated images: {counts}")
    present = dataset.files.names()
    known = {dataset.files.file_name(name) for name in table.names}
    extra = sorted(present - known - read_bad_images(dataset.cache_folder).keys())
    print(f"{dataset.files.location}: {len(present):,} files")
    if extra:
        print(f"warning: {len(extra):,} of them have no annotation: {shortened(extra)}")


def print_sizes(sizes: np.ndarray) -> None:
    """Print the most frequent sizes (N, 2) of pictures."""
    counts = Counter(map(tuple, sizes.tolist())).most_common()
    shown = [f"{width}x{height} ({count:,})" for (height, width), count in counts[:5]]
    rest = f" and {len(counts) - 5:,} other sizes" if len(counts) > 5 else ""
    print(f"  pictures of {', '.join(shown)}{rest} pixels, width x height")


def check(args: argparse.Namespace, dataset: Dataset) -> None:
    """Decode the images of the chosen splits without keeping them."""
    bad = {}
    for split in args.splits:
        names = dataset.split(split).names
        pixels = dataset.pixels(_full_frame(args, split))
        bad |= check_images(dataset.files, names, pixels, args.workers, label=split)
    if bad and not args.skip_bad:
        raise BadImages(dataset.files, bad)
    if bad:
        _leave_out(dataset, bad)
    else:
        print("all images can be read")


def build(args: argparse.Namespace, dataset: Dataset, split: str) -> Records:
    """Build or open the cache of a split; with --skip_bad from the images that can be read."""
    options = {"workers": args.workers, "rebuild": args.rebuild}
    try:
        return dataset.images(split, _full_frame(args, split), **options)
    except BadImages as error:
        if not args.skip_bad:
            raise
        _leave_out(dataset, error.bad)
    return build(args, open_data(args), split)


def _full_frame(args: argparse.Namespace, split: str) -> bool:
    return args.data_augmentation and split == "train"


def _leave_out(dataset: Dataset, bad: dict[str, str]) -> None:
    leave_out(dataset.files, dataset.cache_folder, bad)
    print(f"{len(bad):,} missing or unreadable images are left out: {shortened(sorted(bad))}")


def open_data(args: argparse.Namespace) -> Dataset:
    return Dataset(args.root, args.target_resolution, cache_dir=args.cache_dir)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.download:
        download(args.root)
    dataset = open_data(args)
    print_counts(dataset)
    if len(dataset.table) == COMPLETE:
        check_checksums(find_root(args.root))
    if args.check:
        check(args, dataset)
        return
    for split in args.splits:
        records = build(args, dataset, split)
        size = records.path.stat().st_size
        print(f"{records.path}: {len(records):,} images, {size:,} bytes")
        print_sizes(records.sizes)


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from here")
