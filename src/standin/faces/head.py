"""Head and skin: outline, chin, complexion, cheeks, age, beard."""

from src.standin.faces.canvas import SIDES, Canvas, Points, darker, lighter, mirrored, mix
from src.standin.faces.person import EYE_Y, Person


def draw_head(canvas: Canvas, person: Person) -> None:
    skin, width = person.skin, person.width
    for side in SIDES:
        canvas.ellipse(side * (width + 1.5), 120, 6, 11, darker(skin, 0.08))
        canvas.ellipse(side * (width + 2.0), 120, 3, 7, person.shadow, 150)
    canvas.shape(person.head, skin)
    away = [(x * 0.80 + 2, y - 2) for x, y in reversed(person.jaw)]
    canvas.shape([*person.jaw, *away], person.shadow, 60)  # the side away from the light
    canvas.soft(-8, 82, 24, 14, lighter(skin, 0.5), 60)
    if person.has["Chubby"]:
        for side in SIDES:
            canvas.soft(side * width * 0.66, 144, 15, 13, lighter(skin, 0.35), 110)
            canvas.brush(
                [(side * 29, 139), (side * 34, 150), (side * 28, 161)], 1.8, person.shadow, 190
            )
    if person.has["Double_Chin"]:
        _double_chin(canvas, person)


def _double_chin(canvas: Canvas, person: Person) -> None:
    """A fold of skin below the chin, and the crease between."""
    reach, chin = person.width * 0.66, person.chin
    fold = [(0, chin - 12), (reach, chin - 17), (reach * 0.75, chin + 5), (0, chin + 12)]
    canvas.shape(mirrored(fold), darker(person.skin, 0.07))
    for drop, span in ((11, 0.82), (0, 0.60)):
        y = chin + drop
        crease = [(-reach * span, y - 10), (-reach * span / 2, y - 2), (0, y)]
        crease += [(-x, y) for x, y in reversed(crease[:-1])]
        canvas.brush(crease, 2.2, person.shadow, 220)


def draw_skin(canvas: Canvas, person: Person) -> None:
    """Complexion, cheekbones, blush and age."""
    skin, has = person.skin, person.has
    if has["Attractive"]:
        for side in SIDES:
            canvas.soft(side * 24, 131, 13, 9, lighter(skin, 0.5), 80)
    else:
        blemish = mix(skin, (120, 40, 30), 0.45)
        for x, y in person.scatter[:12]:
            size = 0.7 + (x * 37 % 1) * 1.1
            canvas.ellipse((x - 0.5) * 66, 90 + y * 68, size, size, blemish, 150)
    if has["High_Cheekbones"]:
        w = person.width
        for side in SIDES:
            hollow = [(w * 0.95, 132), (35, 138), (25, 149), (30, 137), (37, 132)]
            canvas.shape([(side * x, y) for x, y in hollow], person.shadow, 125)
            canvas.soft(side * 29, 127, 12, 7, lighter(skin, 0.6), 170)
    if has["Rosy_Cheeks"]:
        for side in SIDES:
            canvas.soft(side * 26, 137, 14, 11, (235, 74, 98), 180)
    if not has["Young"]:
        _wrinkles(canvas, person)


def _wrinkles(canvas: Canvas, person: Person) -> None:
    crease = darker(person.shadow, 0.12)
    for row in range(3):
        y = 80 + 6.5 * row
        canvas.brush([(-23, y + 1.5), (-8, y - 0.5), (8, y), (23, y + 1.5)], 1.7, crease, 190)
    for side in SIDES:
        canvas.brush([(side * 11, 137), (side * 18, 143), (side * 23, 155)], 2.1, crease, 220)
        for drop in (-3, 1, 5):
            foot = [(side * 31, EYE_Y + drop * 0.4), (side * 38, EYE_Y + drop)]
            canvas.brush(foot, 1.4, crease, 200)


def draw_beard(canvas: Canvas, person: Person) -> None:
    """Shadow, full beard, sideburns, goatee and mustache, each on its own label."""
    has, hair, dark = person.has, person.facial_hair, darker(person.facial_hair, 0.15)
    if has["5_o_Clock_Shadow"]:
        stubble = mix(person.skin, (56, 60, 74), 0.6)
        canvas.shape(_jaw_line(person, 130), stubble, 165)
        canvas.shape(mirrored([(0, 142), (12, 143), (20, 152), (0, 149)]), stubble, 150)
    if not has["No_Beard"]:
        kinds = ("5_o_Clock_Shadow", "Goatee", "Mustache", "Sideburns")
        thin = any(has[name] for name in kinds)
        canvas.shape(_jaw_line(person, 124), hair, 135 if thin else 225)
    if has["Sideburns"]:
        w = person.width
        strip = [(w + 1, 92), (w, 120), (w - 2, 140), (w - 11, 143), (w - 9, 118), (w - 7, 92)]
        for side in SIDES:
            canvas.shape([(side * x, y) for x, y in strip], dark, 245)
    if has["Goatee"]:
        chin = person.chin
        tuft = [(0, 163), (12, 163), (17, 151), (21, 153), (18, 167), (9, chin + 3), (0, chin + 7)]
        canvas.shape(mirrored(tuft), dark, 245)
    if has["Mustache"]:
        brush = [(0, 142), (9, 140.5), (19, 147), (24, 153), (12, 149.5), (0, 147.5)]
        canvas.shape(mirrored(brush), dark, 245)


def _jaw_line(person: Person, top: float) -> Points:
    """The region of a beard: along the jaw up to row `top`, around the mouth."""
    w, cheek = person.width, person.jaw[1:]
    inner = [(w * 0.80, top + 6), (w * 0.66, 142), (27, 152), (17, 161), (0, 162)]
    return mirrored([(0, person.chin + 2), *reversed(cheek), (w, top), *inner])
