"""Draw hair: behind the head, around the face, and on the forehead."""

import math

from src.standin.faces.canvas import SIDES, Canvas, Points, darker, lighter, mirrored
from src.standin.faces.person import Person

_VOLUME = {"straight": 3.5, "natural": 6.0, "wavy": 9.0}
_WAVE = {"straight": 0.0, "natural": 0.9, "wavy": 4.6}  # to the side, in pixels


class _Cut:
    """Measures of a haircut, in face coordinates."""

    def __init__(self, person: Person):
        self.wavy = person.has["Wavy_Hair"]
        self.straight = person.has["Straight_Hair"] and not self.wavy
        texture = "wavy" if self.wavy else "straight" if self.straight else "natural"
        volume = _VOLUME[texture] + person.normal.hair_volume + 3 * person.long_hair
        self.outer = person.width + volume  # half width at the ears
        self.top = 51 - 0.5 * volume + 1.5 * person.normal.hair_top
        self.end = min(222.0, max(160.0, 188 + 20 * person.normal.hair_length))  # of long hair
        self.wave, self.phase = _WAVE[texture], person.uniform.phase * 2 * math.pi
        self.part = (person.uniform.parting - 0.5) * 24
        self.recede = 9 if person.has["Receding_Hairline"] else 0
        self.crown = [(self.outer * 0.62, self.top + 6), (self.outer * 0.95, self.top + 26)]

    def sway(self, y: float) -> float:
        return self.wave * math.sin(y * 0.25 + self.phase)

    def rows(self, start: float, stop: float) -> list[float]:
        """Return rows from start to stop that are close enough for the waves."""
        num = max(3, int((stop - start) / (6 if self.wavy else 18)))
        return [start + (stop - start) * k / num for k in range(num + 1)]

    def side(self, start: float) -> Points:
        """Return the outer edge of long hair."""
        sway, outer = self.sway, self.outer
        return [
            (outer + sway(y) + 3 * math.sin((y - 90) / 45), y) for y in self.rows(start, self.end)
        ]

    def loose(self, chance: float, reach: float) -> float:
        """Return how far a strand strays; straight hair lies in parallel."""
        return 0.0 if self.straight else (chance - 0.5) * reach


def draw_hair_behind(canvas: Canvas, person: Person) -> None:
    """Draw the mass of long hair behind neck and head."""
    if person.has["Bald"] or not person.long_hair:
        return
    cut = _Cut(person)
    ends = [(cut.outer * 0.5, cut.end + (0 if cut.straight else 5)), (0, cut.end)]
    outline = mirrored([(0, cut.top), *cut.crown, *cut.side(96), *ends])
    canvas.shape(outline, darker(person.hair, 0.3))


def draw_hair(canvas: Canvas, person: Person) -> None:
    """Draw crown, sides and bangs; on bald heads a shine and, with a hair colour, a rim."""
    has, w = person.has, person.width
    if has["Bald"]:
        canvas.soft(-8, 69, 17, 9, lighter(person.skin, 0.7), 150)
        if has["Black_Hair"] or has["Blond_Hair"] or has["Brown_Hair"] or has["Gray_Hair"]:
            rim = [(w - 5, 90), (w + 3, 92), (w + 5, 108), (w + 2, 124), (w - 1, 112), (w - 3, 102)]
            canvas.both(rim, person.hair)
        return
    cut = _Cut(person)
    (_draw_long if person.long_hair else _draw_short)(canvas, person, cut)
    if has["Bangs"]:
        jag = 0.0 if cut.straight else 2.4
        ends = (1, 0.8, 0.6, 0.4, 0.2, 0, -0.2, -0.4, -0.6, -0.8, -1)
        fringe = [(w * 0.93 * t, 97 + 3 * t * t + jag * (-1) ** k) for k, t in enumerate(ends)]
        canvas.shape([*fringe, (-w * 0.75, 72), (0, 60), (w * 0.75, 72)], person.hair)
        for k in range(10):
            t = (k - 4.5) / 5
            strand = [(t * w * 0.45, 62), (t * w * 0.75, 78), (t * w * 0.88, 95)]
            canvas.line(strand, 0.9, person.strand(k))


def _draw_short(canvas: Canvas, person: Person, cut: _Cut) -> None:
    end = 104 if person.has["Male"] else 126
    w, outer, top = person.width, cut.outer - 1, cut.top
    if cut.wavy:  # curls stand out around the crown
        for k in range(11):
            angle = math.pi * (k + 0.5) / 11
            x, y = (outer - 2) * math.cos(angle), 92 - (90 - top) * math.sin(angle) ** 0.75
            canvas.ellipse(x, y, 7.5, 7, darker(person.hair, 0.1))
    if cut.recede:
        line = [(w * 0.95, 88), (w * 0.8, 68), (w * 0.56, 59), (w * 0.26, 66), (0, 69)]
    else:
        jag = 0 if cut.wavy or cut.straight else 2.4
        line = [(w * 0.95, 93), (w * 0.84, 81 + jag), (w * 0.55, 77 - jag)]
        line += [(w * 0.28, 78 + jag), (0, 76 - jag)]
    crown = [(0, top), (outer * 0.6, top + 4), (outer * 0.93, top + 22), (outer, 84)]
    canvas.shape(mirrored([*crown, (outer - 2, end), (w - 1, end), *line]), person.hair)
    for k, (chance, _) in enumerate(person.scatter[:14]):
        t, loose = (k + 0.5) / 7 - 1, cut.loose(chance, 9)
        root = (cut.part + t * 10, top + 6)
        middle = (cut.part / 2 + t * outer * 0.7 + loose, top + 13 + 9 * t * t)
        tip = (t * outer * 0.93 - loose, 73 - cut.recede + 20 * t * t)
        canvas.line([root, middle, tip], 0.9, person.strand(k))
    if cut.straight:
        sheen = [(-outer * 0.6, top + 13), (0, top + 7), (outer * 0.6, top + 13)]
        canvas.brush(sheen, 4.5, person.gloss, 150, ends=(0, 0))
    elif cut.wavy:
        for k in range(9):
            t = (k - 4) / 4.4
            canvas.ring(t * outer * 0.84, top + 13 + 17 * t * t, 5.5, 5, person.strand(k), 1.2)


def _draw_long(canvas: Canvas, person: Person, cut: _Cut) -> None:
    """Draw long hair that falls to both sides of a parting, in front of the shoulders."""
    w, top, part = person.width, cut.top, cut.part
    for side in SIDES:
        rise = cut.recede
        inner = [(w * 0.92 + cut.sway(y) * 0.8, y) for y in cut.rows(112, cut.end - 4)]
        temple = [(w * 0.93, 94 - rise), (w * 0.62, 76 - rise)]
        parting = [(side * part, 68 - rise), (side * part, top)]
        outline = [*cut.crown, *cut.side(94), *reversed(inner), *temple, *parting]
        canvas.shape([(side * x, y) for x, y in outline], person.hair)
        for k in range(6):  # strands, from the parting to their ends
            t, loose = (k + 0.7) / 6.5, cut.loose(person.scatter[k + (7 if side > 0 else 0)][0], 7)
            x, rise = w * 0.95 + t * (cut.outer + 3 - w * 0.95), cut.recede * (1 - t)
            strand = [(part + side * t * 4, top + 4 + 12 * (1 - t) - rise / 2)]
            strand += [(side * w * (0.5 + 0.3 * t), 66 + 9 * (1 - t) - rise)]
            for y in cut.rows(100, cut.end - 6):
                strand.append((side * (x + cut.sway(y) * 0.9 + loose * (y > 130)), y))
            canvas.line(strand, 0.9, person.strand(k))
        if cut.straight:
            sheen = [(w * 0.55, 68 - cut.recede), (w * 0.98, 92), (cut.outer, 125)]
            sheen = [(side * x, y) for x, y in (*sheen, (cut.outer, cut.end - 14))]
            canvas.brush(sheen, 7, person.gloss, 190, ends=(0, 0))
