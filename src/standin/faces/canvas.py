"""Draw shapes in the coordinates of an upright face.

x is measured from the middle of the face; y is the row in a picture of 178 x 218. The canvas has
twice that size and is scaled down at the end, which smooths edges.
"""

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 178, 218
OVERSAMPLE = 2
SIDES = (-1, 1)  # of the face; x is multiplied by these

Colour = tuple[float, float, float]
Points = list[tuple[float, float]]

_PIVOT_Y = 120  # the head turns around this row
_STEPS = 4  # points of a curve per given point
_CATMULL_ROM = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour that is `share` of the way from a to b."""
    return tuple(x + (y - x) * share for x, y in zip(a, b))


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, (0, 0, 0), share)


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 255, 255), share)


def mirrored(right: Points) -> Points:
    """Complete a closed outline from its right half, which begins and ends near the middle."""
    return right + [(-x, y) for x, y in reversed(right)]


class Canvas:
    """Draw shapes on an image of OVERSAMPLE times 178 x 218, in face coordinates.

    Args:
        image: RGB, changed in place.
        scale, angle: of the head; angle in radians.
        shift: (x, y) of the head in pixels of the final picture.
    """

    def __init__(self, image: Image.Image, scale: float, angle: float, shift: tuple[float, float]):
        # Opaque shapes overwrite, which is much faster than blending.
        self._blend, self._cover = ImageDraw.Draw(image, "RGBA"), ImageDraw.Draw(image)
        self._scale = scale * OVERSAMPLE
        cos, sin = math.cos(angle) * self._scale, math.sin(angle) * self._scale
        self._matrix = np.array([[cos, sin], [-sin, cos]])  # row vectors: pixel = point @ matrix
        centre = np.array([WIDTH / 2 + shift[0], _PIVOT_Y + shift[1]]) * OVERSAMPLE
        self._offset = centre - np.array([0, _PIVOT_Y]) @ self._matrix
        self._turn = (cos, sin, *self._offset.tolist())

    def shape(self, outline: Points, colour: Colour, alpha: int = 255, curved: bool = True) -> None:
        """Fill an outline; `curved` draws a smooth curve through its points."""
        points = np.array(outline)
        self._fill(_spline(len(outline), True)[0] @ points if curved else points, colour, alpha)

    def both(self, right: Points, colour: Colour, alpha: int = 255, curved: bool = True) -> None:
        """Fill an outline on the right side of the face and its mirror image on the left."""
        for side in SIDES:
            self.shape([(side * x, y) for x, y in right], colour, alpha, curved)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: int = 255
    ) -> None:
        draw, ink = self._pen(colour, alpha)
        draw.ellipse(self._box(x, y, rx, ry), fill=ink)

    def ring(self, x: float, y: float, rx: float, ry: float, colour: Colour, width: float) -> None:
        draw, ink = self._pen(colour, 255)
        draw.ellipse(self._box(x, y, rx, ry), outline=ink, width=round(width * OVERSAMPLE))

    def soft(self, x: float, y: float, rx: float, ry: float, colour: Colour, alpha: int) -> None:
        """Draw an ellipse that fades out, for blush and light."""
        for size in (1.0, 0.75, 0.5):
            self.ellipse(x, y, rx * size, ry * size, colour, alpha // 3)

    def line(self, points: Points, width: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a smooth line of constant width."""
        curve = _spline(len(points), False)[0] @ np.array(points)
        draw, ink = self._pen(colour, alpha)
        draw.line(self._flat(curve), fill=ink, width=round(width * OVERSAMPLE))

    def brush(
        self,
        points: Points,
        width: float,
        colour: Colour,
        alpha: int = 255,
        ends: tuple[float, float] = (0.2, 0.2),
    ) -> None:
        """Draw a smooth stroke that tapers from `width` to the shares `ends` of it."""
        spline, slope = _spline(len(points), False)
        curve, normal = spline @ points, (slope @ points)[:, ::-1] * (-1, 1)
        normal *= _taper(len(normal), *ends) * (width / 2) / np.hypot(*normal.T)[:, None]
        self._fill(np.concatenate((curve + normal, (curve - normal)[::-1])), colour, alpha)

    def _fill(self, outline: np.ndarray, colour: Colour, alpha: int) -> None:
        draw, ink = self._pen(colour, alpha)
        draw.polygon(self._flat(outline), fill=ink)

    def _flat(self, points: np.ndarray) -> list[float]:
        """Turn face coordinates (P, 2) into pixels as PIL takes them, [x0, y0, x1, ...]."""
        return (points @ self._matrix + self._offset).ravel().tolist()

    def _box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        """Return the box of pixels around an ellipse, whose axes do not tilt with the head."""
        cos, sin, left, top = self._turn
        px, py = x * cos - y * sin + left, x * sin + y * cos + top
        rx, ry = rx * self._scale, ry * self._scale
        return px - rx, py - ry, px + rx, py + ry

    def _pen(self, colour: Colour, alpha: int) -> tuple[ImageDraw.ImageDraw, tuple[int, ...]]:
        ink = tuple(map(int, colour))
        return (self._cover, ink) if alpha == 255 else (self._blend, (*ink, alpha))


@functools.cache
def _taper(num: int, start: float, end: float) -> np.ndarray:
    """Return the width of a brush along its stroke, as shares (num, 1)."""
    return np.interp(np.linspace(0, 1, num), (0, 0.4, 0.6, 1), (start, 1, 1, end))[:, None]


@functools.cache
def _spline(num: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices (S, num) from points to a Catmull-Rom curve and to its tangents."""
    t = np.arange(_STEPS)[:, None] / _STEPS
    powers, slopes = np.hstack((t**0, t, t**2, t**3)), np.hstack((0 * t, t**0, 2 * t, 3 * t**2))
    segments = num if closed else num - 1
    curve, tangent = np.zeros((2, segments * _STEPS + (not closed), num))
    for k in range(segments):
        rows = slice(k * _STEPS, (k + 1) * _STEPS)
        for basis, neighbour in zip(_CATMULL_ROM.T, range(k - 1, k + 3)):
            point = neighbour % num if closed else min(max(neighbour, 0), num - 1)
            curve[rows, point] += powers @ basis
            tangent[rows, point] += slopes @ basis
    if not closed:
        curve[-1, -1] = tangent[-1, -1] = 1
        tangent[-1, -2] = -1
    return curve, tangent
