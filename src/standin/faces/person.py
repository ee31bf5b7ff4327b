"""What all features of a drawn face share: attributes, chance, colours, the shape of the head."""

from types import SimpleNamespace

import numpy as np

from src.data.groupings import ATTRIBUTES
from src.standin.faces.canvas import Colour, Points, darker, mirrored, mix

# Hair tone is one number from black over brown to blond; (mean, standard deviation) per label. They
# overlap on purpose: at the border of blond and brown the label is a guess, and whoever knows the
# sex guesses better, which is what makes ERM lean on it. Without a colour label: anything darkish.
HAIR_TONES = {"Black_Hair": (-0.45, 0.14), "Brown_Hair": (0.36, 0.17), "Blond_Hair": (0.90, 0.16)}
OTHER_TONE = (0.30, 0.24)
_HAIR_LADDER = (-0.8, -0.3, 0.0, 0.36, 0.63, 0.9, 1.4)
_HAIR_COLOURS = (
    (15, 14, 18),
    (31, 24, 22),
    (56, 38, 28),
    (103, 69, 42),
    (154, 115, 66),
    (209, 171, 98),
    (242, 224, 168),
)
_SILVER = (180, 180, 183)

_SKIN_LADDER = (0, 1, 2, 3, 4)
_SKIN_COLOURS = ((88, 55, 40), (140, 93, 66), (190, 138, 104), (222, 172, 138), (240, 203, 174))
_PALE_SKIN = (251, 236, 229)

EYE_X, EYE_Y, MOUTH_Y = 19.5, 111.0, 152.0  # as CelebA's faces are aligned

# One number of each name is drawn for every face, needed or not, so that an attribute that is
# switched on or off moves nothing else.
_NORMALS = (
    "scale", "tilt", "shift_x", "shift_y", "skin", "tone", "warmth", "width", "chin", "hair_length",
    "hair_volume", "hair_top", "nose", "eye", "mouth", "lips", "skew_eye", "skew_mouth",
    "shoulders", "brow", "light", "temperature",
)  # fmt: skip
_UNIFORMS = (
    "backdrop", "backdrop_colour", "backdrop_tint", "clothes", "long_hair", "parting", "phase",
    "iris", "gaze", "eyeshadow", "lipstick", "earring", "earring_colour", "necklace", "tie",
    "frame", "frame_colour", "hat", "hat_colour", "light_map", "noise", "noise_row", "noise_amount",
)  # fmt: skip


class Person:
    """Attributes and chance of one face, and what follows from them for several features.

    Args:
        attributes: (40,) of 0/1 in the order of ATTRIBUTES.
        seed, index: together they fix every random choice.
    """

    def __init__(self, attributes: np.ndarray, seed: int, index: int):
        rng = np.random.default_rng([1, seed, index])
        self.normal = SimpleNamespace(
            **dict(zip(_NORMALS, rng.standard_normal(len(_NORMALS)).clip(-2.5, 2.5).tolist()))
        )
        self.uniform = SimpleNamespace(**dict(zip(_UNIFORMS, rng.random(len(_UNIFORMS)).tolist())))
        self.scatter = rng.random((32, 2)).tolist()  # for spots, strands and curls
        self.has = dict(zip(ATTRIBUTES, np.asarray(attributes, dtype=bool).tolist()))
        self.skin = self._skin()
        self.shadow = mix(darker(self.skin, 0.3), (120, 50, 40), 0.12)
        self.hair, self.strands = self._hair()
        self.gloss = mix(self.hair, (255, 240, 220), 0.4)  # where straight hair shines
        self.facial_hair = mix(self.hair, (46, 34, 28), 0.0 if self.has["Gray_Hair"] else 0.5)
        self._shape_head()
        plain = 0.0 if self.has["Attractive"] else 1.0
        self.skew_eye = plain * (0.5 if self.normal.skew_eye > 0 else -0.5)  # asymmetry, in pixels
        self.skew_mouth = plain * (1.1 if self.normal.skew_mouth > 0 else -1.1)

    def choose(self, name: str, options: tuple):
        """One of `options`, by the uniform number of that name."""
        return options[int(getattr(self.uniform, name) * len(options))]

    def _skin(self) -> Colour:
        if self.has["Pale_Skin"]:
            return _PALE_SKIN
        position = min(3.6, max(0.3, 2.7 + 0.8 * self.normal.skin))
        return _on_ladder(position, _SKIN_LADDER, _SKIN_COLOURS)

    def _hair(self) -> tuple[Colour, list[Colour]]:
        """Base and strand colours; with several colour labels, their mean and streaks of each."""
        labels = [HAIR_TONES[name] for name in HAIR_TONES if self.has[name]]
        tones = [mean + deviation * self.normal.tone for mean, deviation in labels or [OTHER_TONE]]
        tone = sum(tones) / len(tones)
        base = _on_ladder(tone, _HAIR_LADDER, _HAIR_COLOURS)
        hue = min(1.0, max(0.0, (0.55 - tone) / 0.3))  # dark hair has more of it
        base = mix(base, _undertone(base, self.has), 0.4 * hue)
        streaks = [_on_ladder(tone, _HAIR_LADDER, _HAIR_COLOURS) for tone in tones]
        if self.has["Gray_Hair"]:
            silver = mix(_SILVER, (122, 122, 126), 0.15 * abs(self.normal.warmth))
            base = mix(base, silver, 0.55 if labels else 0.9)
            if labels:
                streaks.append(silver)
        else:
            base = mix(base, (150, 60, 20), 0.05 * max(0.0, self.normal.warmth))
        plain = [darker(base, 0.25), mix(base, (255, 236, 200), 0.12)]
        return base, streaks + plain if len(streaks) > 1 else plain

    def _shape_head(self) -> None:
        """Half width at the cheekbones, chin height and the outline of the head."""
        has, male = self.has, self.has["Male"]
        self.width = (46.0 if male else 43.0) + self.normal.width
        self.chin = (173.0 if male else 170.0) + 1.2 * self.normal.chin
        cheek, jaw, chin_width = (0.98, 0.86, 21.0) if male else (0.96, 0.77, 15.0)
        if has["Oval_Face"]:
            self.width *= 0.94
            self.chin += 5
            cheek, jaw, chin_width = cheek - 0.05, jaw - 0.13, chin_width - 6
        if has["Chubby"]:
            self.width *= 1.09
            cheek, jaw, chin_width = cheek + 0.07, jaw + 0.17, chin_width + 8
        w, chin = self.width, self.chin
        self.jaw: Points = [(w, 108), (w * cheek, 131), (w * jaw, 150), (chin_width, chin - 5)]
        self.head = mirrored([(0, 57), (w * 0.6, 61), (w * 0.93, 82), *self.jaw, (0, chin)])
        self.neck = (29.0 if male else 21.0) + (5 if has["Chubby"] else 0)
        self.collar = self.chin + (15 if male else 17)  # where neck and clothes meet, at the side
        self.long_hair = self.uniform.long_hair < (0.05 if male else 0.9)

    @property
    def hair_texture(self) -> str:
        """wavy, straight or natural (neither label)."""
        if self.has["Wavy_Hair"]:
            return "wavy"
        return "straight" if self.has["Straight_Hair"] else "natural"


def _undertone(hair: Colour, has: dict[str, bool]) -> Colour:
    """Chestnut where people call it brown, ash where they name no colour."""
    if has["Brown_Hair"]:
        return (128, 62, 30)
    if has["Black_Hair"] or has["Blond_Hair"]:
        return hair
    grey = sum(hair) / 3
    return (grey, grey, grey)


def _on_ladder(position: float, steps: tuple, colours: tuple) -> Colour:
    """The colour at `position`, linear between the steps of a ladder, constant beyond its ends."""
    for low, high, a, b in zip(steps, steps[1:], colours, colours[1:]):
        if position < high:
            return mix(a, b, max(0.0, (position - low) / (high - low)))
    return colours[-1]
