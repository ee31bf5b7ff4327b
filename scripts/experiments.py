"""Define the experiments as data: task lists, grids and hyperparameters, with their sources.

`scripts/grids.py` turns them into jobs. "The study" is the series of experiments that this system
was written for. It tunes on five tasks, searches for spurious correlations, and trains on several
tasks at once.
"""

from dataclasses import dataclass
from itertools import product

from src.data.groupings import ATTRIBUTES

Tasks = tuple[str, ...]  # the groupings that one network is trained on


@dataclass(frozen=True)
class Setting:
    """Hyperparameters of one run; all others come from configs/exp/."""

    weight_decay: float
    lr: float
    batch_size: int
    epochs: int
    epochs_stage_1: int | None = None  # JTT only
    lambda_up: float | None = None  # JTT only


@dataclass(frozen=True)
class Experiment:
    """Runs of exp=`method`: one per combination of setting, task list and seed."""

    method: str
    runs: tuple[Tasks, ...]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (0,)


def grid(
    weight_decays: tuple[float, ...],
    lrs: tuple[float, ...],
    batch_sizes: tuple[int, ...],
    epochs: int,
) -> tuple[Setting, ...]:
    """Return all combinations; weight decay varies slowest."""
    return tuple(Setting(*values, epochs) for values in product(weight_decays, lrs, batch_sizes))


def single(*families: tuple[Tasks, ...]) -> tuple[Tasks, ...]:
    """Return a single-task list for each grouping of the families, in order of appearance."""
    return tuple((name,) for name in dict.fromkeys(g for f in families for run in f for g in run))


SEEDS = (0, 1, 2)  # of all comparisons; tuning and identification use the first

# ------------------------------------------------------------------------- multi-task families

# Comparison of multi-task with single-task training.
MTL_STL_COMPARISON = (
    ("Big_Lips:Chubby", "Bushy_Eyebrows:Blond_Hair"),
    ("Wearing_Lipstick:Male", "Gray_Hair:Young"),
    ("High_Cheekbones:Smiling", "Wearing_Lipstick:Male"),
)
# Pairs with different spurious attributes, and pairs that share one.
MTL_DISJOINT = (
    ("Big_Lips:Chubby", "Bushy_Eyebrows:Blond_Hair"),
    ("Wearing_Lipstick:Male", "Gray_Hair:Young"),
    ("High_Cheekbones:Smiling", "Brown_Hair:Wearing_Hat"),
    ("No_Beard:Wearing_Lipstick", "Young:Chubby"),
    ("Bangs:Wearing_Hat", "Pointy_Nose:Heavy_Makeup"),
)
MTL_NONDISJOINT = (
    ("Wearing_Earrings:Male", "Attractive:Male"),
    ("No_Beard:Heavy_Makeup", "Pointy_Nose:Heavy_Makeup"),
    ("Attractive:Gray_Hair", "Big_Nose:Gray_Hair"),
    ("Heavy_Makeup:Wearing_Lipstick", "No_Beard:Wearing_Lipstick"),
    ("Bangs:Wearing_Hat", "Blond_Hair:Wearing_Hat"),
)
# Tasks about the same part of the face.
MTL_SIMILAR = (
    ("Big_Nose:Wearing_Lipstick", "High_Cheekbones:Smiling"),
    ("Big_Lips:Goatee", "Wearing_Lipstick:Male"),
    ("Bags_Under_Eyes:Double_Chin", "High_Cheekbones:Rosy_Cheeks"),
    ("Blond_Hair:Wearing_Hat", "Brown_Hair:Wearing_Hat"),
)
# Strong and weak spurious correlations.
MTL_STRONG = (
    ("Wearing_Lipstick:Male", "High_Cheekbones:Smiling"),
    ("Heavy_Makeup:Male", "Wearing_Earrings:Male"),
)
MTL_WEAK = (
    ("Big_Lips:Chubby", "Young:Chubby"),
    ("High_Cheekbones:Rosy_Cheeks", "Brown_Hair:Wearing_Hat"),
)

# Sets of two, three and four tasks; each letter is a grouping.
_DISJOINT = {
    "a": "Big_Lips:Chubby",
    "b": "Bushy_Eyebrows:Blond_Hair",
    "c": "High_Cheekbones:Smiling",
    "d": "Wearing_Lipstick:Male",
    "e": "Gray_Hair:Young",
    "f": "Brown_Hair:Wearing_Hat",
}
MTL_ABLATE_DISJOINT = tuple(
    tuple(_DISJOINT[letter] for letter in letters)
    for letters in "ab bc abd abe abc bcd bcf bce abdc abec bcde bcfa bcef".split()  # noqa: SIM905
)
_NONDISJOINT = {
    "a": "Arched_Eyebrows:Male",
    "n": "Big_Nose:Male",
    "b": "Blond_Hair:Male",
    "e": "Wearing_Earrings:Male",
    "l": "Wearing_Lipstick:Male",
    "v": "Attractive:Male",
}
MTL_ABLATE_NONDISJOINT = tuple(
    tuple(_NONDISJOINT[letter] for letter in letters)
    for letters in "an be ane anl anv bel ben bea aneb anle anvb bela benv".split()  # noqa: SIM905
)

FAMILIES = {
    "mtl_stl": MTL_STL_COMPARISON,
    "ablate_disjoint": MTL_ABLATE_DISJOINT,
    "ablate_nondisjoint": MTL_ABLATE_NONDISJOINT,
    "disjoint": MTL_DISJOINT,
    "nondisjoint": MTL_NONDISJOINT,
    "similar": MTL_SIMILAR,
    "strong": MTL_STRONG,
    "weak": MTL_WEAK,
}
SINGLE_TASKS = single(*FAMILIES.values())
FIRST_DISJOINT = MTL_DISJOINT[:1]  # the pair for multi-task tuning

# -------------------------------------------------------------------------------------- tuning

# Tuning one network per attribute would be too expensive: these five represent all.
TUNING_TASKS = (
    ("Attractive:Eyeglasses",),
    ("Smiling:High_Cheekbones",),
    ("Pointy_Nose:Rosy_Cheeks",),
    ("Oval_Face:Rosy_Cheeks",),
    ("Young:Attractive",),
)
ERM_GRID = grid((1e-4, 1e-3, 1e-2, 1e-1), (1e-5, 5e-5, 1e-4), (128,), epochs=25)
# As many epochs as the study's SUBY runs.
SUBY_GRID = grid((1e-2, 1e-1, 1.0), (1e-5, 1e-4, 1e-3), (32, 64), epochs=60)
MTL_ERM_GRID = grid((1e-4, 1e-3, 1e-2, 1e-1), (1e-5, 1e-4, 1e-3), (32, 64, 128), epochs=50)

# ------------------------------------------------------------------------------ tuned settings

# The best setting of ERM_GRID in the study, used for one network per attribute.
IDENTIFICATION = Setting(weight_decay=1e-1, lr=1e-4, batch_size=128, epochs=25)
SUBY_IDENTIFICATION = Setting(weight_decay=1e-2, lr=1e-3, batch_size=128, epochs=25)

# The study's single-task runs; JTT uses the values of Liu et al. 2021 for CelebA.
ERM = Setting(weight_decay=1e-4, lr=1e-4, batch_size=128, epochs=50)
SUBY = Setting(weight_decay=1e-2, lr=1e-3, batch_size=128, epochs=60)
RWY = Setting(weight_decay=1e-2, lr=1e-4, batch_size=2, epochs=60)
JTT = Setting(1e-1, 1e-5, batch_size=128, epochs=50, epochs_stage_1=1, lambda_up=50)

# Task weights. static_equal: all 1; static_delta: softmax of delta/100 over the groupings;
# dynamic: LBTW (Liu, Liang, Gitter 2019).
WEIGHTINGS = ("static_equal", "static_delta", "dynamic")

# Multi-task ERM: the study's best settings of MTL_ERM_GRID, by the checkpoint selection metric
# (avg: average accuracy, group: worst-group accuracy) and by task weighting.
_BY_AVERAGE = Setting(weight_decay=1e-1, lr=1e-4, batch_size=64, epochs=50)
_BY_GROUP = Setting(weight_decay=1e-2, lr=1e-4, batch_size=32, epochs=50)
_BY_GROUP_DELTA = Setting(weight_decay=1e-3, lr=1e-3, batch_size=32, epochs=50)
MTL_ERM = {
    "avg": dict.fromkeys(WEIGHTINGS, _BY_AVERAGE),
    "group": dict.fromkeys(WEIGHTINGS, _BY_GROUP) | {"static_delta": _BY_GROUP_DELTA},
}

# --------------------------------------------------------------------------------- experiments

_BARE = tuple((attribute,) for attribute in ATTRIBUTES)

EXPERIMENTS = {
    "erm": Experiment("erm", SINGLE_TASKS, (ERM,), SEEDS),
    "suby": Experiment("suby", SINGLE_TASKS, (SUBY,), SEEDS),
    "rwy": Experiment("rwy", SINGLE_TASKS, (RWY,), SEEDS),
    "jtt": Experiment("jtt", SINGLE_TASKS, (JTT,), SEEDS),
    "erm_tune": Experiment("erm", TUNING_TASKS, ERM_GRID),
    "suby_tune": Experiment("suby", TUNING_TASKS, SUBY_GRID),
    "erm_id": Experiment("erm", _BARE, (IDENTIFICATION,)),
    "suby_id": Experiment("suby", _BARE, (SUBY_IDENTIFICATION,)),
    "mtl_erm_tune": Experiment("erm", FIRST_DISJOINT, MTL_ERM_GRID, SEEDS),
    "mtl_suby_tune": Experiment("suby", FIRST_DISJOINT, SUBY_GRID, SEEDS),
    "mtl_rwy": Experiment("rwy", MTL_STL_COMPARISON, (RWY,), SEEDS),
    "mtl_suby": Experiment("suby", MTL_STL_COMPARISON, (SUBY,), SEEDS),
    "mtl_jtt": Experiment("jtt", MTL_STL_COMPARISON, (JTT,), SEEDS),
}
# Their setting depends on metric and weighting (see MTL_ERM); `grids.find_experiment` sets it.
MTL_ERM_EXPERIMENTS = {f"mtl_erm_{name}": runs for name, runs in FAMILIES.items()}
# The single-task baseline of the mtl_erm experiments: the same groupings one at a time, with the
# same lr, weight decay, batch size and epochs.
STL_MATCHED = "stl_matched"

# ------------------------------------------------------------------------------------- benchmark

# Search spaces of the benchmark: two numbers are the ends of a log-uniform range, a list of names
# holds choices. The ranges of learning rate and weight decay reach from the lowest to the highest
# published setting for CelebA (lr 1e-5: Sagawa et al. 2020, 1e-2: Deng et al. 2023; weight decay
# 1e-4 to 1: Idrissi et al. 2022).
SPACE = {"exp.optimizer.lr": (1e-5, 1e-2), "exp.optimizer.weight_decay": (1e-4, 1.0)}
_SCHEMES = ("inverse", "sqrt", "effective")
# What a method tunes beyond these. Ranges of eta, gamma, alpha and lambda: the random search of
# SubpopBench (Yang et al. 2023); the others lie around the published values. DFR, AFR, SELF and XRM
# search grids of their own inside a run.
SPACES: dict[str, dict[str, tuple[float, float] | tuple[str, ...]]] = {
    "group_dro": {"exp.objective.dro.eta": (1e-3, 1e-1)},
    "group_weights": {"exp.objective.group_weights.scheme": _SCHEMES},
    "class_weights": {"exp.objective.class_weights.scheme": _SCHEMES},
    "focal": {"exp.objective.focal.gamma": (0.5, 5.0)},
    "cvar_dro": {"exp.objective.cvar.alpha": (1e-2, 1.0)},
    "chi2_dro": {"exp.objective.chi2.rho": (0.1, 2.0)},
    "jtt": {"exp.dataloader.lambda_up": (1.0, 300.0)},
    "balanced_softmax": {"exp.objective.class_shift.tau": (0.5, 2.0)},
    "logit_adjustment": {"exp.objective.group_shift.tau": (0.5, 2.0)},
    "vs": {"exp.objective.vs.gamma": (0.1, 0.5)},
    "ldam": {"exp.objective.ldam.max_margin": (0.1, 0.8)},
    "irm": {"exp.objective.irm.strength": (1.0, 1e4)},
    "vrex": {"exp.objective.rex.strength": (1.0, 1e3)},
    "mixup": {"exp.mixup.alpha": (0.1, 1.0)},
    "lisa": {"exp.lisa.alpha": (0.2, 5.0)},
    "lff": {"exp.lff.q": (0.3, 0.95)},
    "eiil": {"exp.objective.dro.eta": (1e-3, 1e-1)},
    "xrm": {"exp.objective.dro.eta": (1e-3, 1e-1)},
    "ssa": {"exp.objective.dro.eta": (1e-3, 1e-1)},
    "dpe": {"exp.dpe.diversity": (1e5, 1e6)},
}
# Heads that are fitted on the features of any ERM run, and so share those of the benchmark's.
HEADS_ON_ERM = ("dfr", "crt", "dpe")
# In the benchmark DFR keeps half of validation, without which nothing could select its setting.
FIXED = {"dfr": {"exp.dfr.refit": "half"}}
