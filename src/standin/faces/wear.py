"""Draw what people wear: clothes, tie, necklace, earrings, glasses, hat."""

import math

from src.standin.faces.canvas import SIDES, Canvas, darker, lighter, mirrored
from src.standin.faces.person import EYE_X, EYE_Y, Person

_FABRICS = (
    (52, 84, 122), (150, 62, 66), (66, 110, 92), (198, 160, 84), (96, 74, 120), (228, 222, 212),
    (60, 62, 70), (204, 116, 92), (112, 150, 172), (132, 100, 76), (186, 142, 160), (38, 50, 72),
)  # fmt: skip
_JEWELS = ((240, 200, 72), (238, 240, 246), (64, 190, 196), (222, 56, 84))
_TIES = ((172, 28, 40), (34, 58, 148), (118, 36, 112), (196, 152, 44), (24, 110, 92))
_FRAMES = ((20, 18, 22), (100, 48, 24), (58, 62, 76))
_BOTTOM = 245  # below the picture


def draw_neck_and_clothes(canvas: Canvas, person: Person) -> None:
    """Draw neck, clothes, shirt and tie, and necklace."""
    has, neck, collar, chin = person.has, person.neck, person.collar, person.chin
    throat = mirrored([(0, 140), (neck, 140), (neck + 4, 225)])
    canvas.shape(throat, darker(person.skin, 0.1), curved=False)
    below_chin = [(0, chin + 10), (neck * 0.7, chin + 4), (neck, chin - 12), (0, chin - 20)]
    canvas.shape(mirrored(below_chin), person.shadow, 150)
    cloth = (44, 47, 58) if has["Wearing_Necktie"] else person.choose("clothes", _FABRICS)
    shoulders = (88 if has["Male"] else 74) + 3 * person.normal.shoulders
    dip = 8 if has["Male"] else 24  # of the neckline
    neckline = [(0, collar + dip), (neck * 0.6, collar + dip * 0.6), (neck + 2, collar - 3)]
    sleeve = [(shoulders - 20, collar + 8), (shoulders, collar + 22), (shoulders + 8, _BOTTOM)]
    canvas.shape(mirrored([*neckline, *sleeve]), cloth)
    hem = neckline[::-1] + [(-x, y) for x, y in neckline[1:]]
    canvas.brush(hem, 2.2, darker(cloth, 0.3), ends=(1, 1))
    if has["Wearing_Necktie"]:
        _draw_shirt_and_tie(canvas, person)
    if has["Wearing_Necklace"]:
        colour = person.choose("necklace", _JEWELS)
        for k in range(11):
            angle = math.pi * (k + 0.5) / 11
            x, y = (neck + 1) * math.cos(angle), chin + 4 + 14 * math.sin(angle)
            size = 2.3 + 0.9 * math.sin(angle)
            canvas.ellipse(x, y, size + 0.7, size + 0.7, darker(colour, 0.5))
            canvas.ellipse(x, y, size, size, colour)


def _draw_shirt_and_tie(canvas: Canvas, person: Person) -> None:
    n, y, colour = person.neck, person.chin + 6, person.choose("tie", _TIES)
    shirt = [(0, y + 6), (n, y - 4), (n + 4, y + 6), (15, _BOTTOM), (0, _BOTTOM)]
    canvas.shape(mirrored(shirt), (242, 243, 247), curved=False)
    flap = [(0, y + 5), (n, y - 5), (n + 2, y + 5), (13, y + 15)]
    canvas.both(flap, (222, 226, 236), curved=False)
    lapel = [(n + 4, y + 4), (15, _BOTTOM), (40, _BOTTOM), (n + 12, y + 8)]
    canvas.both(lapel, (30, 32, 42), curved=False)
    blade = [(0, y + 13), (5, y + 13), (12, _BOTTOM), (0, _BOTTOM)]
    canvas.shape(mirrored(blade), colour, curved=False)
    knot = [(0, y + 4), (7, y + 4), (5, y + 14), (0, y + 14)]
    canvas.shape(mirrored(knot), darker(colour, 0.2), curved=False)


def draw_earrings(canvas: Canvas, person: Person) -> None:
    if not person.has["Wearing_Earrings"]:
        return
    colour = person.choose("earring_colour", _JEWELS)
    for side in SIDES:
        x = side * (person.width + 4)
        canvas.ellipse(x, 134, 2.6, 2.6, darker(colour, 0.4))
        if person.uniform.earring < 0.5:
            canvas.ring(x, 144, 6, 8, darker(colour, 0.5), 2.8)
            canvas.ring(x, 144, 5.5, 7.5, colour, 1.8)
        else:
            canvas.ellipse(x, 144, 5.2, 7, darker(colour, 0.5))
            canvas.ellipse(x, 143.5, 4.3, 6, colour)
            canvas.ellipse(x - 1, 141.5, 1.5, 2, lighter(colour, 0.6))


def draw_glasses(canvas: Canvas, person: Person) -> None:
    if not person.has["Eyeglasses"]:
        return
    frame, dark = person.choose("frame_colour", _FRAMES), person.uniform.frame < 0.2
    wide, high = 15.0, 10.5 + 2 * person.uniform.frame
    for side in SIDES:
        x, y = side * EYE_X, EYE_Y + 1
        top = [(x - wide, y - high * 0.8), (x, y - high), (x + wide, y - high * 0.8)]
        below = [(x + wide * 0.9, y + high * 0.7), (x, y + high), (x - wide * 0.9, y + high * 0.7)]
        rim = top + below
        canvas.shape(rim, (26, 26, 34) if dark else (225, 238, 248), 225 if dark else 45)
        canvas.line([*rim, *rim[:2]], 2.4, frame)
        canvas.line([(x - 9, y + 4), (x - 3, y - 6)], 1.6, (255, 255, 255), 110)
        canvas.line([(side * 34, y - 5), (side * (person.width + 2), y - 4)], 2.2, frame)
    canvas.line([(-5, EYE_Y - 2), (0, EYE_Y - 4), (5, EYE_Y - 2)], 2.2, frame)


def draw_hat(canvas: Canvas, person: Person) -> None:
    """Draw a beanie, a brimmed hat or a cap."""
    if not person.has["Wearing_Hat"]:
        return
    cloth, w = person.choose("hat_colour", _FABRICS), person.width + 8
    style = person.choose("hat", ("beanie", "brim", "cap"))
    canvas.shape(mirrored([(0, 30), (w * 0.6, 35), (w * 0.95, 58), (w, 84), (0, 80)]), cloth)
    canvas.soft(-w * 0.4, 48, 14, 14, lighter(cloth, 0.5), 90)
    band = [(0, 70), (w * 0.7, 72), (w, 76), (w + 1, 87), (w * 0.7, 85), (0, 83)]
    canvas.shape(mirrored(band), darker(cloth, 0.35))
    if style == "brim":
        canvas.ellipse(0, 85, w + 22, 8, darker(cloth, 0.2))
        canvas.ellipse(0, 83, w + 18, 5, cloth)
    elif style == "cap":
        peak = [(0, 80), (w * 0.8, 82), (w * 0.92, 93), (0, 98)]
        canvas.shape(mirrored(peak), darker(cloth, 0.15))
