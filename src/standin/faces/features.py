"""Nose, eyes, brows and mouth."""

import math

from src.standin.faces.canvas import SIDES, Canvas, Points, darker, lighter, mirrored, mix
from src.standin.faces.person import EYE_X, EYE_Y, MOUTH_Y, Person

_INK = (34, 22, 22)
_IRISES = ((74, 46, 28), (62, 104, 148), (78, 110, 66), (48, 34, 26))
_EYESHADOWS = ((126, 62, 150), (52, 92, 160), (110, 66, 44), (176, 62, 110))
_LIPSTICKS = ((196, 18, 44), (214, 38, 108), (150, 14, 58), (224, 62, 52))


def draw_nose(canvas: Canvas, person: Person) -> None:
    skin, shadow, big = person.skin, person.shadow, person.has["Big_Nose"]
    half = (8.0 if person.has["Male"] else 6.6) + 0.5 * person.normal.nose + (5.5 if big else 0)
    tip = 137 + 0.8 * person.normal.nose + (2 if big else 0)
    if person.has["Pointy_Nose"]:
        half *= 0.75
        blade = [(0, 107), (2, 108), (half, tip), (0, tip + 7.5)]
        canvas.shape(mirrored(blade), darker(skin, 0.10), curved=False)
        canvas.shape(blade, shadow, 150, curved=False)
        canvas.brush([(-0.6, 111), (-0.6, 126), (-0.4, tip + 3)], 2.0, lighter(skin, 0.45), 190)
    else:
        body = [(0, 111), (3, 112), (half * 0.8, tip - 6), (half, tip), (half * 0.5, tip + 4)]
        canvas.shape(mirrored(body), darker(skin, 0.08))
        canvas.shape([(1, 112), *body[1:]], shadow, 70)
        canvas.soft(-1, tip - 3, half * 0.55, 4.5, lighter(skin, 0.5), 120)
    for side in SIDES:
        x = side * half * 0.5
        canvas.ellipse(x, tip + 2.2, 2.6 if big else 1.6, 1.3, darker(shadow, 0.45))


def draw_eyes(canvas: Canvas, person: Person) -> None:
    for side in SIDES:
        x, y = side * EYE_X, EYE_Y + person.skew_eye * side
        _eye(canvas, person, x, y, side)
        _brow(canvas, person, x, y, side)


def _eye(canvas: Canvas, person: Person, x: float, y: float, side: int) -> None:
    has = person.has
    glow = 0.9 if has["Attractive"] else 0.0
    wide = 8.8 + 0.3 * person.normal.eye + glow
    high = 2.0 if has["Narrow_Eyes"] else 4.9 + 0.3 * person.normal.eye + glow
    if has["Heavy_Makeup"]:
        _eyeshadow(canvas, person, x, y, side * wide, high)
    if has["Bags_Under_Eyes"]:
        _eye_bag(canvas, person, x, y, wide)
    lid = [(x - wide, y + 0.6), (x - wide * 0.5, y - high * 0.8), (x, y - high)]
    lid += [(x + wide * 0.5, y - high * 0.8), (x + wide, y + 0.6)]
    under = [(x + wide * 0.45, y + high * 0.75), (x - wide * 0.45, y + high * 0.75)]
    canvas.shape([*lid, *under], (246, 243, 240))
    _iris(canvas, person, x, y, high)
    lashes = not has["Male"] or has["Heavy_Makeup"]
    weight = 3.2 if has["Heavy_Makeup"] else 2.4 if lashes else 1.8
    canvas.brush(lid, weight, _INK if lashes else darker(person.shadow, 0.55), ends=(0.5, 0.6))
    if lashes:
        flick = [(x + side * wide * 0.8, y - high * 0.3), (x + side * (wide + 3.6), y - 3.2)]
        canvas.brush(flick, weight, _INK, ends=(0.9, 0.1))
    if not has["Narrow_Eyes"]:
        fold = [(x - wide * 0.8, y - high - 1), (x, y - high - 3), (x + wide * 0.8, y - high - 1)]
        canvas.brush(fold, 1.3, person.shadow, 170)


def _iris(canvas: Canvas, person: Person, x: float, y: float, high: float) -> None:
    colour, flat = person.choose("iris", _IRISES), min(1.0, high / 4.6)
    x, y = x + 1.6 * (person.uniform.gaze - 0.5), y - 0.5
    canvas.ellipse(x, y, 4.6, 4.6 * flat, darker(colour, 0.4))
    canvas.ellipse(x, y, 3.7, 3.7 * flat, colour)
    canvas.ellipse(x, y, 2.0, 2.0 * flat, (14, 11, 12))
    canvas.ellipse(x + 1.4, y - 1.2, 1.1, 1.1 * flat, (255, 255, 255))


def _eyeshadow(canvas: Canvas, person: Person, x: float, y: float, out: float, high: float) -> None:
    """Colour on the lid and a line below; `out` is the half width of the eye, signed outwards."""
    lid = [(x - out, y + 1), (x - out * 0.6, y - high - 4), (x, y - high - 6.5)]
    lid += [(x + out * 0.8, y - high - 5), (x + out * 1.55, y - 3)]
    canvas.shape(lid, person.choose("eyeshadow", _EYESHADOWS), 190)
    canvas.brush([(x - out, y + 2), (x, y + high * 0.9), (x + out, y + 2)], 1.6, _INK, 200)


def _eye_bag(canvas: Canvas, person: Person, x: float, y: float, wide: float) -> None:
    bruise = mix(person.shadow, (92, 60, 98), 0.45)
    bag = [(x - wide, y + 3), (x, y + 5), (x + wide, y + 3), (x + wide * 0.6, y + 10)]
    canvas.shape([*bag, (x, y + 12), (x - wide * 0.6, y + 10)], bruise, 130)
    crease = [(x - wide * 0.9, y + 7), (x, y + 13), (x + wide * 0.9, y + 7)]
    canvas.brush(crease, 1.9, darker(bruise, 0.2), 220)


def _brow(canvas: Canvas, person: Person, x: float, y: float, side: int) -> None:
    has = person.has
    y -= (12.5 if has["Male"] else 13.5) + 0.6 * person.normal.brow
    y += 0.8 * person.skew_eye * side
    weight = 8.0 if has["Bushy_Eyebrows"] else 4.0 if has["Male"] else 2.9
    if has["Arched_Eyebrows"]:
        arc = ((-10.5, 1.5), (-4, -2), (3, -6), (8, -3.5), (13, 3.5))
    else:
        arc = ((-10.5, 1.2), (-3, 0.2), (4, 0), (8, 0.6), (12, 2))
    points = [(x + side * dx, y + dy) for dx, dy in arc]
    canvas.brush(points, weight, darker(person.facial_hair, 0.2), 245, ends=(0.8, 0.15))


def draw_mouth(canvas: Canvas, person: Person) -> None:
    has, smiling = person.has, person.has["Smiling"]
    full = (6.2 if has["Big_Lips"] else 2.9) + 0.25 * person.normal.lips
    gap = (8.0 if smiling else 6.0) if has["Mouth_Slightly_Open"] else 0.0
    lip = mix(person.skin, (178, 70, 74), 0.35 if has["Male"] else 0.5)
    if has["Wearing_Lipstick"]:
        lip = person.choose("lipstick", _LIPSTICKS)
    canvas.shape(
        _lip_line(person, -full, dip=full * 0.3) + _lip_line(person, gap + full * 1.25)[::-1], lip
    )
    middle = _lip_line(person, 0)
    if gap:
        canvas.shape(middle + _lip_line(person, gap)[::-1], (72, 20, 26))
        teeth = middle[1:-1] + _lip_line(person, gap * 0.55)[1:-1][::-1]
        canvas.shape(teeth, (246, 243, 238))
    else:
        canvas.brush(middle, 1.9, darker(lip, 0.5), ends=(0.6, 0.6))
    shine = _lip_line(person, gap + full * 0.7)[3:6]
    canvas.brush(shine, full * 0.4, lighter(lip, 0.45), 140)
    if smiling:
        for side, (x, y) in zip(SIDES, (middle[0], middle[-1])):
            dimple = [(x + side, y - 5), (x + side * 4.5, y), (x + side * 2, y + 6)]
            canvas.brush(dimple, 2.0, person.shadow, 220)


def _lip_line(person: Person, drop: float, dip: float = 0.0) -> Points:
    """From corner to corner, `drop` below the corners' arc in its middle; `dip` is Cupid's bow."""
    smiling = person.has["Smiling"]
    half = (20.5 if smiling else 15.0) + 0.6 * person.normal.mouth
    lift = 7.0 if smiling else 0.4  # of the corners above the middle
    points = []
    for t in (-1, -0.85, -0.5, -0.2, 0, 0.2, 0.5, 0.85, 1):
        sag = math.sqrt(1 - t * t) * drop + (dip if t == 0 else 0)
        points.append((t * half, MOUTH_Y - lift * t * t + sag + person.skew_mouth * t))
    return points
