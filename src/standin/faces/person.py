"""Hold what several features of a drawn face share: attributes, chance, colours, head shape."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np

from src.data.groupings import ATTRIBUTES
from src.standin.faces.canvas import Colour, Points, darker, mirrored, mix

# Hair tone is a number from black over brown to blond: (mean, standard deviation) per label, and
# for faces without a colour label. The tones overlap on purpose. Between blond and brown the label
# is a guess, and knowing the sex improves it: this makes ERM rely on the spurious attribute.
_HAIR_TONES = {"Black_Hair": (-0.45, 0.14), "Brown_Hair": (0.36, 0.17), "Blond_Hair": (0.90, 0.16)}
_OTHER_TONE = (0.30, 0.24)
_HAIR_COLOURS = {
    -0.8: (15, 14, 18), -0.3: (31, 24, 22), 0.0: (56, 38, 28), 0.36: (103, 69, 42),
    0.63: (154, 115, 66), 0.9: (209, 171, 98), 1.4: (242, 224, 168),
}  # fmt: skip
_SILVER = (180, 180, 183)
_SKIN_COLOURS = {
    0: (88, 55, 40), 1: (140, 93, 66), 2: (190, 138, 104), 3: (222, 172, 138), 4: (240, 203, 174),
}  # fmt: skip
_PALE_SKIN = (251, 236, 229)

EYE_X, EYE_Y, MOUTH_Y = 19.5, 111.0, 152.0  # as CelebA's faces are aligned

# Every face draws one number per name, needed or not. Switching an attribute therefore moves
# nothing else.
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
    """Attributes and chance of one face, and what several features derive from them.

    Args:
        attributes: (40,) of 0/1 in the order of ATTRIBUTES.
        seed, index: together fix every random choice.
    """

    def __init__(self, attributes: np.ndarray, seed: int, index: int):
        rng = np.random.default_rng([1, seed, index])
        normals = rng.standard_normal(len(_NORMALS)).clip(-2.5, 2.5).tolist()
        self.normal = SimpleNamespace(**dict(zip(_NORMALS, normals)))
        self.uniform = SimpleNamespace(**dict(zip(_UNIFORMS, rng.random(len(_UNIFORMS)).tolist())))
        self.scatter = rng.random((32, 2)).tolist()  # for spots, strands and curls
        self.has = dict(zip(ATTRIBUTES, np.asarray(attributes, dtype=bool).tolist()))
        tone = min(3.6, max(0.3, 2.7 + 0.8 * self.normal.skin))
        self.skin = _PALE_SKIN if self.has["Pale_Skin"] else _interpolate(tone, _SKIN_COLOURS)
        self.shadow = mix(darker(self.skin, 0.3), (120, 50, 40), 0.12)
        self.hair, self.strands = self._hair()
        self.gloss = mix(self.hair, (255, 240, 220), 0.4)  # where straight hair shines
        self.facial_hair = mix(self.hair, (46, 34, 28), 0.0 if self.has["Gray_Hair"] else 0.5)
        self._shape_head()
        plain = 0.0 if self.has["Attractive"] else 1.0
        self.skew_eye = plain * (0.5 if self.normal.skew_eye > 0 else -0.5)  # asymmetry, in pixels
        self.skew_mouth = plain * (1.1 if self.normal.skew_mouth > 0 else -1.1)

    def choose(self, name: str, options: tuple):
        """Pick one of `options` by the uniform number `name`."""
        return options[int(getattr(self.uniform, name) * len(options))]

    def strand(self, k: int) -> Colour:
        return self.strands[k % len(self.strands)]

    def _hair(self) -> tuple[Colour, list[Colour]]:
        """Return base and strand colours; several colour labels give their mean and streaks."""
        has = self.has
        labels = [tone for name, tone in _HAIR_TONES.items() if has[name]]
        tones = [mean + deviation * self.normal.tone for mean, deviation in labels or [_OTHER_TONE]]
        tone = sum(tones) / len(tones)
        base = _interpolate(tone, _HAIR_COLOURS)
        undertone = base
        if has["Brown_Hair"]:
            undertone = (128, 62, 30)  # chestnut
        elif not (has["Black_Hair"] or has["Blond_Hair"]):
            undertone = (sum(base) / 3,) * 3  # ash
        base = mix(base, undertone, 0.4 * min(1.0, max(0.0, (0.55 - tone) / 0.3)))
        streaks = [_interpolate(tone, _HAIR_COLOURS) for tone in tones]
        if has["Gray_Hair"]:
            silver = mix(_SILVER, (122, 122, 126), 0.15 * abs(self.normal.warmth))
            base = mix(base, silver, 0.55 if labels else 0.9)
            streaks += [silver] * bool(labels)
        else:
            base = mix(base, (150, 60, 20), 0.05 * max(0.0, self.normal.warmth))
        plain = [darker(base, 0.25), mix(base, (255, 236, 200), 0.12)]
        return base, streaks + plain if len(streaks) > 1 else plain

    def _shape_head(self) -> None:
        """Set half width at the cheekbones, chin height, outline of the head, neck and collar."""
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


def _interpolate(position: float, colours: dict[float, Colour]) -> Colour:
    """Return the colour at `position`, linear between the keys and constant beyond them."""
    steps = list(colours.items())
    for (low, a), (high, b) in pairwise(steps):
        if position < high:
            return mix(a, b, max(0.0, (position - low) / (high - low)))
    return steps[-1][1]
