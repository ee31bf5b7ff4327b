"""Draw sheets of the stand-in's faces, to look at them.

    python -m scripts.draw_faces --out outputs/faces

writes `random.png` (40 faces as they occur) and `attributes.png` (each attribute off and on, on
otherwise equal faces).
"""

import argparse

import numpy as np
from PIL import Image, ImageDraw

from src.data.groupings import ATTRIBUTES, COLUMN
from src.io import UserError, exit_on_user_error, expand
from src.standin.attribute_table import sample_attributes
from src.standin.faces import draw_face
from src.standin.faces.canvas import HEIGHT, WIDTH

# Attributes that are shown on a man.
MANLY = (
    "5_o_Clock_Shadow", "Bald", "Bushy_Eyebrows", "Goatee", "Gray_Hair", "Mustache", "No_Beard",
    "Receding_Hairline", "Sideburns", "Wearing_Necktie",
)  # fmt: skip


def random_sheet(
    seed: int, correlation: float = 1.0, columns: int = 10, rows: int = 4
) -> Image.Image:
    """`columns * rows` faces drawn from the joint distribution of the attributes."""
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT))
    for k, attributes in enumerate(sample_attributes(columns * rows, seed, correlation)):
        place = (k % columns * WIDTH, k // columns * HEIGHT)
        sheet.paste(draw_face(attributes, seed, k), place)
    return sheet


def attribute_sheet(seed: int, columns: int = 8) -> Image.Image:
    """A pair of faces per attribute, without and with it."""
    title, gap = 16, 8
    rows = -(-len(ATTRIBUTES) // columns)
    sheet = Image.new("RGB", (columns * (2 * WIDTH + gap), rows * (HEIGHT + title)), "white")
    write = ImageDraw.Draw(sheet).text
    for k, name in enumerate(ATTRIBUTES):
        x, y = k % columns * (2 * WIDTH + gap), k // columns * (HEIGHT + title)
        write((x + 4, y + 3), name, fill="black")
        for value in (0, 1):
            face = draw_face(example_attributes(name, value), seed, k)
            sheet.paste(face, (x + value * WIDTH, y + title))
    return sheet


def example_attributes(name: str, value: int) -> np.ndarray:
    """Attributes (40,) of a plain face on which attribute `name` has `value`."""
    attributes = np.zeros(len(ATTRIBUTES), np.uint8)
    for usual in ("Young", "No_Beard", "Attractive"):
        attributes[COLUMN[usual]] = 1
    attributes[COLUMN["Male"]] = name in MANLY
    attributes[COLUMN[name]] = value
    return attributes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="outputs/faces", type=expand, help="default: %(default)s")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--correlation", default=1.0, type=float, help="of the random sheet")
    arguments = parser.parse_args()
    if arguments.seed < 0:
        raise UserError(f"--seed {arguments.seed}: a whole number from 0")
    arguments.out.mkdir(parents=True, exist_ok=True)
    random_sheet(arguments.seed, arguments.correlation).save(arguments.out / "random.png")
    attribute_sheet(arguments.seed).save(arguments.out / "attributes.png")
    print(f"{arguments.out}: random.png, attributes.png")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
