"""Draw shapes on textures with a metadata.csv, to try your own table of pictures.

python -m scripts.draw_shapes data/shapes
"""

import argparse
from pathlib import Path

from src.io import exit_on_user_error, expand, write_error
from src.standin.shapes import draw_shapes


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.draw_shapes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("root", type=Path, help="folder to write into")
    parser.add_argument("--train", type=int, default=600, help="pictures of the train split")
    parser.add_argument("--test", type=int, default=300, help="pictures of val, and of test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    root = expand(args.root)
    with exit_on_user_error():
        try:
            draw_shapes(root, args.train, args.test, args.seed)
        except OSError as error:
            raise write_error(root, error) from error
    print(f"{root / 'metadata.csv'}: {args.train + 2 * args.test:,} pictures")


if __name__ == "__main__":
    main()
