"""What the study's experiments cost on 1, 8 and 64 GPUs, on paper from measured rates."""

from benchmarks.rows_data import CELEBA_TRAIN

VAL = 19_867  # CelebA's validation split


def paper(rates: dict[int, float]) -> list[dict]:
    """Hours and disk of the study's large experiments on all of CelebA.

    Args:
        rates: training images/s of one GPU by batch size; of others the nearest smaller one's, else
            the smallest's. A validation image costs a third of a training one.
    """
    from scripts.experiments import EXPERIMENTS, FAMILIES, MTL_ERM, SEEDS, TUNING_TASKS
    from scripts.jobs.estimate import parameters

    grid, identification = EXPERIMENTS["erm_tune"], EXPERIMENTS["erm_id"]
    chosen = {
        (weighting, setting)
        for by_rule in MTL_ERM.values()
        for weighting, setting in by_rule.items()
    }
    lists = list(dict.fromkeys(t for family in FAMILIES.values() for t in family))
    experiments = {
        "the 60-run grid": [(t, s) for t in TUNING_TASKS for s in grid.settings],
        "the 40-run identification": [
            (t, s) for t in identification.runs for s in identification.settings
        ],
        "all families of several tasks, ERM": [
            (t, setting) for t in lists for _, setting in sorted(chosen, key=str) for _ in SEEDS
        ],
    }
    rows = []
    for name, runs in experiments.items():
        sizes = [s.epochs * (CELEBA_TRAIN + VAL / 3) for _, s in runs]
        hours = [
            images / rate_of(rates, s.batch_size) / 3600 for images, (_, s) in zip(sizes, runs)
        ]
        rules = [2 if len(t) == 1 else 3 + 2 * len(t) for t, _ in runs]
        disk = sum(
            8 * min(s.epochs, kept + 1) * parameters("resnet50", len(t))
            for kept, (t, s) in zip(rules, runs)
        )
        row = {"name": name, "runs": len(runs), "images": sum(sizes), "disk": disk / 1e9}
        # No run is shared between GPUs: the longest one is a lower bound.
        row |= {f"hours_{n}": max(sum(hours) / n, max(hours)) for n in (1, 8, 64)}
        rows.append(row)
    return rows


def rate_of(rates: dict[int, float], batch_size: int) -> float:
    smaller = [known for known in rates if known <= batch_size]
    return rates[max(smaller) if smaller else min(rates)]
