"""Drawn faces on which each of CelebA's 40 attributes can be seen, for the embedded stand-in."""

import numpy as np
from PIL import Image

from src.standin.faces import features, hair, head, photo, wear
from src.standin.faces.canvas import Canvas
from src.standin.faces.person import Person


def draw_face(attributes: np.ndarray, seed: int, index: int) -> Image.Image:
    """One face, RGB 178 x 218, aligned as CelebA's are (eyes on row 111, mouth on row 152).

    Args:
        attributes: (40,) of 0/1 in the order of ATTRIBUTES; each changes the picture in its own way
            and moves nothing else.
        seed, index: fix everything that is random: pose, skin, hair, clothes, backdrop, light.
    """
    person = Person(attributes, seed, index)
    image = photo.backdrop(person)
    chance = person.normal
    canvas = Canvas(
        image,
        scale=1 + 0.035 * chance.scale,
        angle=0.04 * chance.tilt,
        shift=(2 * chance.shift_x, 2 * chance.shift_y),
    )
    hair.draw_hair_behind(canvas, person)
    wear.draw_neck_and_clothes(canvas, person)
    head.draw_head(canvas, person)
    head.draw_skin(canvas, person)
    head.draw_beard(canvas, person)
    features.draw_nose(canvas, person)
    features.draw_eyes(canvas, person)
    features.draw_mouth(canvas, person)
    hair.draw_hair(canvas, person)
    wear.draw_earrings(canvas, person)
    wear.draw_glasses(canvas, person)
    wear.draw_hat(canvas, person)
    return photo.photograph(image, person)
