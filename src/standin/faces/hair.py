"""Hair: behind the head, around the face, and on the forehead."""

import math

from src.standin.faces.canvas import SIDES, Canvas, Points, darker, lighter, mirrored
from src.standin.faces.person import Person

_VOLUME = {"straight": 3.5, "natural": 6.0, "wavy": 9.0}
_WAVE = {"straight": 0.0, "natural": 0.9, "wavy": 4.6}  # to the side, in pixels


class _Cut:
    """Measures of a haircut, in face coordinates."""

    def __init__(self, person: Person):
        self.texture = (
            "wavy"
            if person.has["Wavy_Hair"]
            else "straight"
            if person.has["Straight_Hair"]
            else "natural"
        )
        self.wavy, self.straight = self.texture == "wavy", self.texture == "straight"
        self.volume = _VOLUME[self.texture] + person.normal.hair_volume + 3 * person.long_hair
        self.outer = person.width + self.volume  # half width at the ears
        self.top = 51 - 0.5 * self.volume + 1.5 * person.normal.hair_top
        self.end = min(222.0, max(160.0, 188 + 20 * person.normal.hair_length))  # of long hair
        self.phase = person.uniform.phase * 2 * math.pi
        self.part = (person.uniform.parting - 0.5) * 24
        self.recede = 9 if person.has["Receding_Hairline"] else 0

    def sway(self, y: float) -> float:
        return _WAVE[self.texture] * math.sin(y * 0.25 + self.phase)

    def rows(self, start: float, stop: float) -> list[float]:
        """Rows from start to stop, close enough for the waves."""
        num = max(3, int((stop - start) / (6 if self.wavy else 18)))
        return [start + (stop - start) * k / num for k in range(num + 1)]

    def side(self, start: float, stop: float) -> Points:
        """The outer edge of long hair."""
        return [
            (self.outer + self.sway(y) + 3 * math.sin((y - 90) / 45), y)
            for y in self.rows(start, stop)
        ]

    def loose(self, chance: float, reach: float) -> float:
        """How far a strand strays; straight hair lies in parallel."""
        return 0.0 if self.straight else (chance - 0.5) * reach


def draw_hair_behind(canvas: Canvas, person: Person) -> None:
    """The mass behind neck and head; only long hair has one."""
    if person.has["Bald"] or not person.long_hair:
        return
    cut = _Cut(person)
    crown = [(0, cut.top), (cut.outer * 0.62, cut.top + 6), (cut.outer * 0.95, cut.top + 26)]
    ends = [(cut.outer * 0.5, cut.end + (0 if cut.straight else 5)), (0, cut.end)]
    canvas.shape(mirrored([*crown, *cut.side(96, cut.end), *ends]), darker(person.hair, 0.3))


def draw_hair(canvas: Canvas, person: Person) -> None:
    """Crown, sides and bangs; of bald heads the shine and, with a hair colour, a rim."""
    if person.has["Bald"]:
        _bald(canvas, person)
        return
    cut = _Cut(person)
    if person.long_hair:
        _curtains(canvas, person, cut)
    else:
        _crop(canvas, person, cut)
    if person.has["Bangs"]:
        _bangs(canvas, person, cut)


def _bald(canvas: Canvas, person: Person) -> None:
    canvas.soft(-8, 69, 17, 9, lighter(person.skin, 0.7), 150)
    colours = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
    if any(person.has[name] for name in colours):
        w = person.width
        rim = [(w - 5, 90), (w + 3, 92), (w + 5, 108), (w + 2, 124), (w - 1, 112), (w - 3, 102)]
        for side in SIDES:
            canvas.shape([(side * x, y) for x, y in rim], person.hair)


def _crop(canvas: Canvas, person: Person, cut: _Cut) -> None:
    """Short hair."""
    end = 104 if person.has["Male"] else 126
    outer, top = cut.outer - 1, cut.top
    if cut.wavy:  # curls stand out around the crown
        for k in range(11):
            angle = math.pi * (k + 0.5) / 11
            x, y = (outer - 2) * math.cos(angle), 92 - (90 - top) * math.sin(angle) ** 0.75
            canvas.ellipse(x, y, 7.5, 7, darker(person.hair, 0.1))
    crown = [(0, top), (outer * 0.6, top + 4), (outer * 0.93, top + 22), (outer, 84)]
    canvas.shape(mirrored([*crown, (outer - 2, end), *_hairline(person, cut, end)]), person.hair)
    for k, (chance, _) in enumerate(person.scatter[:14]):
        t, loose = (k + 0.5) / 7 - 1, cut.loose(chance, 9)
        root = [(cut.part + t * 10, top + 6)]
        middle = (cut.part / 2 + t * outer * 0.7 + loose, top + 13 + 9 * t * t)
        tip = (t * outer * 0.93 - loose, 73 - cut.recede + 20 * t * t)
        canvas.line([*root, middle, tip], 0.9, person.strands[k % len(person.strands)])
    if cut.straight:
        sheen = [(-outer * 0.6, top + 13), (0, top + 7), (outer * 0.6, top + 13)]
        canvas.brush(sheen, 4.5, person.gloss, 150, ends=(0, 0))
    elif cut.wavy:
        for k in range(9):
            t = (k - 4) / 4.4
            x, y = t * outer * 0.84, top + 13 + 17 * t * t
            canvas.ring(x, y, 5.5, 5, person.strands[k % len(person.strands)], 1.2)


def _hairline(person: Person, cut: _Cut, end: float) -> Points:
    """Right half of the border between short hair and forehead, from the ear to the middle."""
    w = person.width
    if cut.recede:
        return [
            (w - 1, end),
            (w * 0.95, 88),
            (w * 0.8, 68),
            (w * 0.56, 59),
            (w * 0.26, 66),
            (0, 69),
        ]
    jag = 2.4 if cut.texture == "natural" else 0
    line = [(w - 1, end), (w * 0.95, 93), (w * 0.84, 81 + jag), (w * 0.55, 77 - jag)]
    return [*line, (w * 0.28, 78 + jag), (0, 76 - jag)]


def _curtains(canvas: Canvas, person: Person, cut: _Cut) -> None:
    """Long hair falls to both sides of a parting, in front of the shoulders."""
    w, rise = person.width, cut.recede
    for side in SIDES:
        crown = [(cut.outer * 0.62, cut.top + 6), (cut.outer * 0.95, cut.top + 26)]
        inner = [(w * 0.92 + cut.sway(y) * 0.8, y) for y in cut.rows(112, cut.end - 4)]
        temple = [(w * 0.93, 94 - rise), (w * 0.62, 76 - rise)]
        right = [*crown, *cut.side(94, cut.end), *reversed(inner), *temple]
        parting = [(side * cut.part, 68 - rise), (side * cut.part, cut.top)]
        canvas.shape([(side * x, y) for x, y in (*right, *parting)], person.hair)
        for k in range(6):
            _lock(canvas, person, cut, side, k)
        if cut.straight:
            sheen = [
                (w * 0.55, 68 - rise),
                (w * 0.98, 92),
                (cut.outer, 125),
                (cut.outer, cut.end - 14),
            ]
            sheen = [(side * x, y) for x, y in sheen]
            canvas.brush(sheen, 7, person.gloss, 190, ends=(0, 0))


def _lock(canvas: Canvas, person: Person, cut: _Cut, side: int, k: int) -> None:
    """The k-th strand of a curtain, from the parting to its end."""
    w, t = person.width, (k + 0.7) / 6.5
    loose = cut.loose(person.scatter[k + (7 if side > 0 else 0)][0], 7)
    x = w * 0.95 + t * (cut.outer + 3 - w * 0.95)
    fall = cut.rows(100, cut.end - 6)
    tail = [(side * (x + cut.sway(y) * 0.9 + loose * (y > 130)), y) for y in fall]
    rise = cut.recede * (1 - t)
    root = (cut.part + side * t * 4, cut.top + 4 + 12 * (1 - t) - rise / 2)
    bend = (side * w * (0.5 + 0.3 * t), 66 + 9 * (1 - t) - rise)
    canvas.line([root, bend, *tail], 0.9, person.strands[k % len(person.strands)])


def _bangs(canvas: Canvas, person: Person, cut: _Cut) -> None:
    """A fringe down to the brows."""
    w, jag = person.width, 0.0 if cut.straight else 2.4
    ends = (1, 0.8, 0.6, 0.4, 0.2, 0, -0.2, -0.4, -0.6, -0.8, -1)
    fringe = [(w * 0.93 * t, 97 + 3 * t * t + jag * (-1) ** k) for k, t in enumerate(ends)]
    canvas.shape([*fringe, (-w * 0.75, 72), (0, 60), (w * 0.75, 72)], person.hair)
    for k in range(10):
        t = (k - 4.5) / 5
        strand = [(t * w * 0.45, 62), (t * w * 0.75, 78), (t * w * 0.88, 95)]
        canvas.line(strand, 0.9, person.strands[k % len(person.strands)])
