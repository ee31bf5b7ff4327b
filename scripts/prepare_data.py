"""Check CelebA, fetch it if asked to, and decode its images once into the cache.

    python -m scripts.prepare_data --root data/celeba
    python -m scripts.prepare_data --root data/celeba --download

Can be stopped and started again. Training builds the same cache by itself where it is missing.
"""

import argparse
import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path

from src.data.cache import Records, open_or_build_cache
from src.data.celeba import bad_images_file, leave_out, load_annotations
from src.data.decoding import BadImages, check_images
from src.data.layout import HOMEPAGE, ImageFiles, find_root
from src.data.pixels import Pixels
from src.data.table import SPLITS, Table
from src.data.tables import shortened
from src.io import UserError, exit_on_user_error, read_json

COMPLETE = 202_599  # images of the official data set
NEEDED = ("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba.zip")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.prepare_data", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--root", type=Path, default=Path("data/celeba"), help="the CelebA folder, or its parent")
    add("--cache_dir", type=Path, default=Path("data/cache"), help="where decoded images are kept")
    add("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    add(
        "--target_resolution",
        nargs=2,
        type=_side,
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
    add("--download", action="store_true", help="fetch what is missing first (1.4 GB)")
    add("--skip_bad", action="store_true", help="leave missing and unreadable images out")
    add("--check", action="store_true", help="decode every image, write no cache")
    add("--workers", type=_workers, default=None, help="processes (default: one per core)")
    return parser.parse_args(argv)


def _side(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"{value}: a side of 1 to 4096 pixels")
    return value


def _workers(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1")
    return value


def download(root: Path) -> None:
    """Fetch the annotation files and the images' archive with torchvision's downloader.

    Files that are there with the right checksum are left as they are.

    Raises:
        UserError: no network, no downloader, or a refusal by the host.
    """
    from torchvision.datasets import CelebA  # slow to import, and only needed here
    from torchvision.datasets.utils import download_file_from_google_drive

    folder = root.expanduser()
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
                f"{name} could not be fetched ({reason[0]}). Is this machine online? Google Drive "
                "also refuses when too many people fetch a file: try again in some hours, or get "
                f"{', '.join(NEEDED)} by hand from {HOMEPAGE} and put them into {folder}"
            ) from None


def check_checksums(root: Path) -> None:
    """Compare the files of a complete set with the official MD5s; a difference is only told."""
    from torchvision.datasets import CelebA

    for _, wanted, name in CelebA.file_list:
        path = root / name
        if name in NEEDED and path.is_file():
            found = _md5(path)
            verdict = "as published" if found == wanted else f"NOT as published (MD5 {found})"
            print(f"{path}: {verdict}")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_rows(annotations: Table, images: ImageFiles, left_out: set[str]) -> None:
    """Say how many rows and images there are, and which images have no row."""
    counts = ", ".join(f"{split} {len(annotations.of_split(split)):,}" for split in SPLITS)
    print(f"{len(annotations):,} annotated images: {counts}")
    present = images.names()
    extra = sorted(present.difference(annotations.names.tolist(), left_out))
    print(f"{images.location}: {len(present):,} files")
    if extra:
        print(f"warning: {len(extra):,} of them have no annotation: {shortened(extra)}")


def check_all(args: argparse.Namespace, annotations: Table, images: ImageFiles) -> None:
    """Decode the images of the chosen splits without keeping them."""
    bad = {}
    for split in args.splits:
        names, pixels = annotations.of_split(split).names, _pixels(args, split)
        bad |= check_images(images, names, pixels, args.workers, label=split)
    if bad and not args.skip_bad:
        raise BadImages(images, bad)
    if bad:
        _leave_out(args, bad)
    else:
        print("all images can be read")


def build(args: argparse.Namespace, split: str) -> Records:
    """Build or open the cache of a split; with --skip_bad from the images that can be read."""
    while True:
        try:
            return open_or_build_cache(
                args.root,
                split,
                tuple(args.target_resolution),
                _pixels(args, split).full_frame,
                args.cache_dir,
                args.workers,
            )
        except BadImages as error:
            if not args.skip_bad:
                raise
            _leave_out(args, error.bad)


def _pixels(args: argparse.Namespace, split: str) -> Pixels:
    full_frame = args.data_augmentation and split == "train"
    return Pixels(tuple(args.target_resolution), full_frame)


def _leave_out(args: argparse.Namespace, bad: dict[str, str]) -> None:
    leave_out(args.root, bad, args.cache_dir)
    print(f"{len(bad):,} missing or unreadable images are left out: {shortened(sorted(bad))}")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.download:
        download(args.root)
    root = find_root(args.root)
    annotations, images = load_annotations(root, args.cache_dir), ImageFiles(root)
    listed = bad_images_file(root, args.cache_dir)
    check_rows(annotations, images, set(read_json(listed)) if listed.is_file() else set())
    if len(annotations) == COMPLETE:
        check_checksums(root)
    if args.check:
        check_all(args, annotations, images)
        return
    for split in args.splits:
        records = build(args, split)
        print(f"{records.path}: {len(records):,} images, {records.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
