"""Draw head, skin, beard, nose, eyes and mouth."""

import math

from src.standin.faces.canvas import SIDES, Canvas, Points, darker, lighter, mirrored, mix
from src.standin.faces.person import EYE_X, EYE_Y, MOUTH_Y, Person

_INK = (34, 22, 22)
_IRISES = ((74, 46, 28), (62, 104, 148), (78, 110, 66), (48, 34, 26))
_EYESHADOWS = ((126, 62, 150), (52, 92, 160), (110, 66, 44), (176, 62, 110))
_LIPSTICKS = ((196, 18, 44), (214, 38, 108), (150, 14, 58), (224, 62, 52))


def draw_head(canvas: Canvas, person: Person) -> None:
    """Draw ears, the outline of the head, full cheeks and a double chin."""
    skin, shadow, width, chin = person.skin, person.shadow, person.width, person.chin
    for side in SIDES:
        canvas.ellipse(side * (width + 1.5), 120, 6, 11, darker(skin, 0.08))
        canvas.ellipse(side * (width + 2.0), 120, 3, 7, shadow, 150)
    canvas.shape(person.head, skin)
    away = [(x * 0.80 + 2, y - 2) for x, y in reversed(person.jaw)]
    canvas.shape([*person.jaw, *away], shadow, 60)  # the side away from the light
    canvas.soft(-8, 82, 24, 14, lighter(skin, 0.5), 60)
    if person.has["Chubby"]:
        for side in SIDES:
            canvas.soft(side * width * 0.66, 144, 15, 13, lighter(skin, 0.35), 110)
            crease = [(side * 29, 139), (side * 34, 150), (side * 28, 161)]
            canvas.brush(crease, 1.8, shadow, 190)
    if person.has["Double_Chin"]:
        reach = width * 0.66
        fold = [(0, chin - 12), (reach, chin - 17), (reach * 0.75, chin + 5), (0, chin + 12)]
        canvas.shape(mirrored(fold), darker(skin, 0.07))
        for y, x in ((chin + 11, reach * 0.82), (chin, reach * 0.60)):
            crease = [(-x, y - 10), (-x / 2, y - 2), (0, y), (x / 2, y - 2), (x, y - 10)]
            canvas.brush(crease, 2.2, shadow, 220)


def draw_skin(canvas: Canvas, person: Person) -> None:
    """Draw complexion, cheekbones, blush and wrinkles."""
    skin, has, w = person.skin, person.has, person.width
    if not has["Attractive"]:
        blemish = mix(skin, (120, 40, 30), 0.45)
        for x, y in person.scatter[:12]:
            size = 0.7 + (x * 37 % 1) * 1.1
            canvas.ellipse((x - 0.5) * 66, 90 + y * 68, size, size, blemish, 150)
    hollow = [(w * 0.95, 132), (35, 138), (25, 149), (30, 137), (37, 132)]
    for side in SIDES:
        if has["Attractive"]:
            canvas.soft(side * 24, 131, 13, 9, lighter(skin, 0.5), 80)
        if has["High_Cheekbones"]:
            canvas.shape([(side * x, y) for x, y in hollow], person.shadow, 125)
            canvas.soft(side * 29, 127, 12, 7, lighter(skin, 0.6), 170)
        if has["Rosy_Cheeks"]:
            canvas.soft(side * 26, 137, 14, 11, (235, 74, 98), 180)
    if not has["Young"]:
        crease = darker(person.shadow, 0.12)
        for y in (80, 86.5, 93):  # forehead
            canvas.brush([(-23, y + 1.5), (-8, y - 0.5), (8, y), (23, y + 1.5)], 1.7, crease, 190)
        for side in SIDES:
            canvas.brush([(side * 11, 137), (side * 18, 143), (side * 23, 155)], 2.1, crease, 220)
            for drop in (-3, 1, 5):  # crow's feet
                foot = [(side * 31, EYE_Y + drop * 0.4), (side * 38, EYE_Y + drop)]
                canvas.brush(foot, 1.4, crease, 200)


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Draw stubble, full beard, sideburns, goatee and mustache, each for its own label."""
    has, hair, dark = person.has, person.facial_hair, darker(person.facial_hair, 0.15)
    w, chin = person.width, person.chin

    def jaw_line(top: float) -> Points:  # along the jaw up to row `top`, around the mouth
        inner = [(w * 0.80, top + 6), (w * 0.66, 142), (27, 152), (17, 161), (0, 162)]
        return mirrored([(0, chin + 2), *reversed(person.jaw[1:]), (w, top), *inner])

    if has["5_o_Clock_Shadow"]:
        stubble = mix(person.skin, (56, 60, 74), 0.6)
        canvas.shape(jaw_line(130), stubble, 165)
        canvas.shape(mirrored([(0, 142), (12, 143), (20, 152), (0, 149)]), stubble, 150)
    if not has["No_Beard"]:
        kinds = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
        canvas.shape(jaw_line(124), hair, 135 if any(has[name] for name in kinds) else 225)
    if has["Sideburns"]:
        strip = [(w + 1, 92), (w, 120), (w - 2, 140), (w - 11, 143), (w - 9, 118), (w - 7, 92)]
        canvas.both(strip, dark, 245)
    if has["Goatee"]:
        tuft = [(0, 163), (12, 163), (17, 151), (21, 153), (18, 167), (9, chin + 3), (0, chin + 7)]
        canvas.shape(mirrored(tuft), dark, 245)
    if has["Mustache"]:
        brush = [(0, 142), (9, 140.5), (19, 147), (24, 153), (12, 149.5), (0, 147.5)]
        canvas.shape(mirrored(brush), dark, 245)


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
        _draw_eye(canvas, person, x, y, side)
        _draw_brow(canvas, person, x, y, side)


def _draw_eye(canvas: Canvas, person: Person, x: float, y: float, side: int) -> None:
    has, shadow = person.has, person.shadow
    glow = 0.9 if has["Attractive"] else 0.0
    wide = 8.8 + 0.3 * person.normal.eye + glow
    high = 2.0 if has["Narrow_Eyes"] else 4.9 + 0.3 * person.normal.eye + glow
    if has["Heavy_Makeup"]:  # eyeshadow, and a line below
        out = side * wide
        lid = [(x - out, y + 1), (x - out * 0.6, y - high - 4), (x, y - high - 6.5)]
        lid += [(x + out * 0.8, y - high - 5), (x + out * 1.55, y - 3)]
        canvas.shape(lid, person.choose("eyeshadow", _EYESHADOWS), 190)
        canvas.brush([(x - out, y + 2), (x, y + high * 0.9), (x + out, y + 2)], 1.6, _INK, 200)
    if has["Bags_Under_Eyes"]:
        bruise = mix(shadow, (92, 60, 98), 0.45)
        bag = [(x - wide, y + 3), (x, y + 5), (x + wide, y + 3), (x + wide * 0.6, y + 10)]
        canvas.shape([*bag, (x, y + 12), (x - wide * 0.6, y + 10)], bruise, 130)
        crease = [(x - wide * 0.9, y + 7), (x, y + 13), (x + wide * 0.9, y + 7)]
        canvas.brush(crease, 1.9, darker(bruise, 0.2), 220)
    lid = [(x - wide, y + 0.6), (x - wide * 0.5, y - high * 0.8), (x, y - high)]
    lid += [(x + wide * 0.5, y - high * 0.8), (x + wide, y + 0.6)]
    under = [(x + wide * 0.45, y + high * 0.75), (x - wide * 0.45, y + high * 0.75)]
    canvas.shape([*lid, *under], (246, 243, 240))
    iris, flat = person.choose("iris", _IRISES), min(1.0, high / 4.6)
    middle = x + 1.6 * (person.uniform.gaze - 0.5)
    for radius, colour in ((4.6, darker(iris, 0.4)), (3.7, iris), (2.0, (14, 11, 12))):
        canvas.ellipse(middle, y - 0.5, radius, radius * flat, colour)
    canvas.ellipse(middle + 1.4, y - 0.5 - 1.2, 1.1, 1.1 * flat, (255, 255, 255))
    lashes = not has["Male"] or has["Heavy_Makeup"]
    weight = 3.2 if has["Heavy_Makeup"] else 2.4 if lashes else 1.8
    canvas.brush(lid, weight, _INK if lashes else darker(shadow, 0.55), ends=(0.5, 0.6))
    if lashes:
        flick = [(x + side * wide * 0.8, y - high * 0.3), (x + side * (wide + 3.6), y - 3.2)]
        canvas.brush(flick, weight, _INK, ends=(0.9, 0.1))
    if not has["Narrow_Eyes"]:
        fold = [(x - wide * 0.8, y - high - 1), (x, y - high - 3), (x + wide * 0.8, y - high - 1)]
        canvas.brush(fold, 1.3, shadow, 170)


def _draw_brow(canvas: Canvas, person: Person, x: float, y: float, side: int) -> None:
    has = person.has
    y -= (12.5 if has["Male"] else 13.5) + 0.6 * person.normal.brow
    y += 0.8 * person.skew_eye * side
    weight = 8.0 if has["Bushy_Eyebrows"] else 4.0 if has["Male"] else 2.9
    arc = ((-10.5, 1.2), (-3, 0.2), (4, 0), (8, 0.6), (12, 2))
    if has["Arched_Eyebrows"]:
        arc = ((-10.5, 1.5), (-4, -2), (3, -6), (8, -3.5), (13, 3.5))
    points = [(x + side * dx, y + dy) for dx, dy in arc]
    canvas.brush(points, weight, darker(person.facial_hair, 0.2), 245, ends=(0.8, 0.15))


def draw_mouth(canvas: Canvas, person: Person) -> None:
    has, smiling = person.has, person.has["Smiling"]
    full = (6.2 if has["Big_Lips"] else 2.9) + 0.25 * person.normal.lips
    gap = (8.0 if smiling else 6.0) if has["Mouth_Slightly_Open"] else 0.0
    lip = mix(person.skin, (178, 70, 74), 0.35 if has["Male"] else 0.5)
    if has["Wearing_Lipstick"]:
        lip = person.choose("lipstick", _LIPSTICKS)
    upper, lower = _lip_line(person, -full, full * 0.3), _lip_line(person, gap + full * 1.25)
    canvas.shape(upper + lower[::-1], lip)
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


def _lip_line(person: Person, drop: float, bow: float = 0.0) -> Points:
    """Return a line from corner to corner, `drop` below their arc, with a Cupid's bow."""
    smiling = person.has["Smiling"]
    half = (20.5 if smiling else 15.0) + 0.6 * person.normal.mouth
    lift = 7.0 if smiling else 0.4  # of the corners above the middle
    points = []
    for t in (-1, -0.85, -0.5, -0.2, 0, 0.2, 0.5, 0.85, 1):
        sag = math.sqrt(1 - t * t) * drop + (bow if t == 0 else 0)
        points.append((t * half, MOUTH_Y - lift * t * t + sag + person.skew_mouth * t))
    return points
