"""Predict pictures of your own with a finished run.

python predict.py --log_dir RUN PICTURE_OR_FOLDER...
python predict.py --log_dir RUN --explain PICTURE...

Prints the probability of each task and writes it as CSV. --explain also draws each picture beside
a heat map per task: what speaks for class 1 is red, what speaks against it is blue.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from src.io import UserError, exit_on_user_error, expand, write_atomic

if TYPE_CHECKING:
    import pandas as pd

    from src.evaluation.trained_run import TrainedRun

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
MOST_LINES = 50  # of the printed table
MOST_ON_SHEET = 40
BATCH = 64  # pictures at once


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--log_dir", type=expand, required=True, help="run folder, such as logs/erm/..."
    )
    parser.add_argument("--ckpt_num", help="an epoch, last, or a rule; default best-group")
    parser.add_argument("images", nargs="+", type=expand, help="image files, or folders of them")
    parser.add_argument("--out", type=expand, default=Path("outputs/predict/predictions.csv"))
    parser.add_argument("--explain", action="store_true", help="draw heat maps beside the CSV")
    parser.add_argument("--device", help="auto, cpu or cuda")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        if args.out.suffix != ".csv":
            raise UserError(f"--out {args.out}: use a name that ends in .csv")
        files = find_files(args.images)
        # Imported here so that a mistake above is reported before torch is loaded.
        from src.api import load_run

        run = load_run(args.log_dir, args.ckpt_num, device=args.device)
        run.pixels  # noqa: B018 (once for all pictures: the run may have none)
        table, skipped = predict_readable(run, files)
        print(f"{run.path}, epoch {run.epoch}; probabilities in percent")
        print((100 * table).to_string(max_rows=MOST_LINES, float_format="{:.1f}".format))
        write_atomic(args.out, table.to_csv())
        print(f"{len(table):,} pictures: {args.out}")
        for problem in skipped:
            print(f"skipped: {problem}")
        if args.explain:
            from src.evaluation.explain import explain
            from src.figures import save_figure

            sheet = args.out.with_suffix(".png")
            save_figure(explain(run, table.index[:MOST_ON_SHEET]), sheet)
            print(sheet)


def find_files(paths: list[Path]) -> list[Path]:
    """Return the files among `paths`, and the images of the folders among them, sorted."""
    files = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else []
        files += [file for file in inside if file.suffix.lower() in SUFFIXES]
        files += [] if path.is_dir() else [path]
    if not files:
        raise UserError(
            f"{', '.join(map(str, paths))}: there are no images ({', '.join(SUFFIXES)})"
        )
    return files


def predict_readable(run: "TrainedRun", files: list[Path]) -> tuple["pd.DataFrame", list[str]]:
    """Return the predictions of the files that can be read, and what is wrong with the others."""
    import pandas as pd
    import torch

    tables, problems = [], []
    for start in range(0, len(files), BATCH):
        images = {}
        for file in files[start : start + BATCH]:
            try:
                images[str(file)] = run.transform(file)
            except UserError as error:
                problems += error.problems
        if images:
            table = run.predict(torch.stack([*images.values()]))
            tables.append(table.set_axis(pd.Index(images, name="image")))
    if not tables:
        raise UserError(problems)
    return pd.concat(tables), problems


if __name__ == "__main__":
    main()
