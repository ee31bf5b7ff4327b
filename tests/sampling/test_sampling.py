import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.data.celeba import load_annotations
from src.data.groupings import parse_groupings
from src.io import UserError
from src.sampling.balance import effective_sample_size
from src.sampling.draws import stratified_halves
from src.sampling.epochs import IndexPlan, Schedule, epoch_positions, split_batches
from src.sampling.plans import (
    Levels,
    erm,
    make_plan,
    reweight,
    stack_groups,
    stack_labels,
    subsample,
)
from tests.data.small_celeba import table_of

BLOND = parse_groupings(["Blond_Hair:Male"])
# Groups of 6, 2, 3 and 1 examples; classes of 8 and 4.
GROUPS = np.array([[0, 2, 0, 1, 0, 3, 2, 0, 1, 0, 2, 0]]).T
LABELS = (GROUPS >= 2).astype(np.uint8)


def plan_of(sampler=None, subsample_type=None, seed=0, **keywords):
    return make_plan(
        LABELS, GROUPS, BLOND, sampler=sampler, subsample_type=subsample_type, seed=seed, **keywords
    )


def random_tasks(seed, num_examples=300, names=("Young:Male", "Bangs:Chubby", "Smiling:Male")):
    """Labels, groups and groupings of three tasks, two of which share an attribute."""
    rng = np.random.default_rng(seed)
    attributes = (rng.random((num_examples, 40)) < rng.uniform(0.3, 0.7, 40)).astype(np.uint8)
    return labels_and_groups(attributes, names)


def labels_and_groups(attributes, names):
    groupings = parse_groupings(names, training=True)
    table = table_of(attributes)
    labels, groups = stack_labels(table, groupings), stack_groups(table, groupings)
    return labels, groups, groupings


def method(name):
    """The keywords of `make_plan` for a method."""
    return {"sampler" if name.startswith("rw") else "subsample_type": name}


# One task, by hand


def test_erm_sees_every_example_once():
    plan = plan_of()
    assert plan.positions.tolist() == list(range(12)) and plan.weights is None and not plan.notes
    assert plan.positions.dtype == np.int64


def test_rwy_and_rwg_weigh_an_example_by_one_over_its_class_or_group_size():
    sizes = np.array([6, 2, 3, 1])
    assert plan_of("rwg").weights.tolist() == (1 / sizes)[GROUPS[:, 0]].tolist()
    plan = plan_of("rwy")
    assert plan.weights.tolist() == np.where(LABELS[:, 0] == 0, 1 / 8, 1 / 4).tolist()
    # (8/8 + 4/4)^2 / (8/64 + 4/16) = 4 / 0.375 = 10.67
    assert plan.notes == ("rwy has an effective sample size of 11 of 12 examples (88.89 %)",)


def test_suby_and_subg_keep_as_many_as_the_smallest_class_or_group_has():
    plan = plan_of(subsample_type="subg")
    assert np.bincount(GROUPS[plan.positions, 0]).tolist() == [1, 1, 1, 1]
    plan = plan_of(subsample_type="suby")
    assert np.bincount(LABELS[plan.positions, 0]).tolist() == [4, 4]
    assert len(set(plan.positions)) == 8 and plan.weights is None
    assert plan.notes == ("suby keeps 8 of 12 examples (66.67 %)",)


def test_jtt_repeats_positions():
    times = np.ones(12, np.int64)
    times[[2, 5]] = 50
    plan = plan_of(multiplicities=times)
    assert np.bincount(plan.positions).tolist() == times.tolist()
    assert plan.notes == ("jtt: 12 examples, 110 with repeats",)


def test_subsets_are_a_matter_of_the_seed_and_every_member_has_its_chance():
    kept = [plan_of(subsample_type="suby", seed=seed).positions.tolist() for seed in range(60)]
    assert kept[7] == plan_of(subsample_type="suby", seed=7).positions.tolist()
    chosen = np.bincount(np.concatenate(kept), minlength=12)
    assert (chosen[LABELS[:, 0] == 1] == 60).all()
    # 4 of 8: 30 of 60 expected, standard deviation 3.9.
    assert (np.abs(chosen[LABELS[:, 0] == 0] - 30) < 16).all()


# Combinations


def test_weights_describe_the_subset_and_nothing_outside_of_it_is_drawn():
    plan = plan_of("rwg", "suby")
    inside = GROUPS[plan.positions, 0]
    assert np.allclose(plan.weights, (1 / np.maximum(np.bincount(inside, minlength=4), 1))[inside])
    draws = np.concatenate([epoch_positions(plan, 0, epoch) for epoch in range(50)])
    assert len(draws) == 50 * 8 and set(draws) == set(plan.positions)


def test_weights_count_the_repeats_of_jtt():
    times = np.where(GROUPS[:, 0] == 3, 5, 1)
    plan = plan_of("rwy", multiplicities=times)  # class 1 has 4 examples, 8 with repeats
    assert plan.weights.tolist() == [1 / 8] * 16
    # One example has 5/8, the other 11 have 1/8 each: 2^2 / ((25 + 11) / 64) = 7.11.
    assert plan.notes[-1] == "rwy has an effective sample size of 7 of 12 examples (59.26 %)"


# Epochs and batches


def test_an_epoch_without_weights_is_one_shuffled_pass():
    plan = IndexPlan(np.array([3, 3, 5, 8, 9, 11]))
    epochs = [epoch_positions(plan, 4, epoch).tolist() for epoch in range(1, 30)]
    assert all(sorted(epoch) == [3, 3, 5, 8, 9, 11] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 20


@pytest.mark.parametrize("weights", [None, np.arange(100.0)])
def test_an_epoch_is_a_function_of_seed_and_epoch(weights):
    plan = IndexPlan(np.arange(100), weights)
    first = epoch_positions(plan, 1, 2)
    assert np.array_equal(first, epoch_positions(plan, 1, 2)) and first.dtype == np.int64
    assert not np.array_equal(first, epoch_positions(plan, 1, 3))
    assert not np.array_equal(first, epoch_positions(plan, 2, 2))
    assert not np.array_equal(epoch_positions(plan, 1, 2), epoch_positions(plan, 2, 1))


def test_examples_are_drawn_with_replacement_in_proportion_to_their_weight():
    weights = np.array([0.0, 1.0, 3.0, 0.0, 6.0, 0.0])
    plan = IndexPlan(np.arange(10, 16), weights)
    draws = np.concatenate([epoch_positions(plan, 0, epoch) for epoch in range(2000)])
    shares = np.bincount(draws, minlength=16)[10:] / len(draws)
    # 12,000 draws: the standard deviation of a share is at most 0.0046.
    assert np.abs(shares - weights / 10).max() < 0.02
    assert (shares[weights == 0] == 0).all()


def test_a_draw_at_the_very_end_does_not_reach_a_weight_of_zero(monkeypatch):
    class Highest:
        def random(self, size):
            return np.full(size, 1.0)  # what rounding of u * total can amount to

        def permutation(self, values):
            return values

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Highest())
    plan = IndexPlan(np.array([7, 8, 9]), np.array([1.0, 1.0, 0.0]))
    assert epoch_positions(plan, 0, 1).tolist() == [8, 8, 8]


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (9, 4, [4, 5]),  # the single leftover joins
        (5, 2, [2, 3]),
        (3, 8, [3]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
        (0, 4, []),
    ],
)
def test_batches_keep_the_partial_one_but_no_single_leftover(num_examples, batch_size, sizes):
    batches = split_batches(np.arange(num_examples), batch_size)
    assert [len(batch) for batch in batches] == sizes
    assert [i for batch in batches for i in batch] == list(range(num_examples))


# Several tasks


@given(st.integers(0, 9999), st.sampled_from(["rwy", "rwg"]), st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_weights_do_not_depend_on_the_order_of_tasks_or_examples(seed, name, tasks):
    labels, groups, groupings = random_tasks(seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    plan = make_plan(labels, groups, groupings, seed=0, **method(name))
    other = [groupings[task] for task in tasks]
    same = make_plan(labels[:, tasks], groups[:, tasks], other, seed=0, **method(name))
    assert np.array_equal(same.weights, plan.weights)
    moved = make_plan(labels[order], groups[order], groupings, seed=0, **method(name))
    assert np.array_equal(moved.weights, plan.weights[order])
    for values in (labels if name == "rwy" else groups).T:
        shares = np.bincount(values, plan.weights) / plan.weights.sum()
        assert np.abs(shares - 1 / len(shares)).max() < 1e-9


# Notes and errors


def test_empty_groups_are_named_and_left_out_of_the_balance():
    groups = GROUPS[GROUPS[:, 0] != 3]
    labels = (groups >= 2).astype(np.uint8)
    for name in ("rwg", "subg"):
        plan = make_plan(labels, groups, BLOND, seed=0, **method(name))
        expected = f"warning: {name} leaves out what has no examples: Blond_Hair=1 Male=1"
        assert plan.notes[0] == expected
    assert np.bincount(groups[plan.positions, 0]).tolist() == [2, 2, 2]


def test_examples_that_no_weighting_can_use_are_named_with_their_number():
    groupings = parse_groupings(["Young", "Bangs"])
    labels = np.array([[0, 0]] * 2 + [[1, 0]] * 7 + [[1, 1]] * 5, np.uint8)
    plan = make_plan(labels, None, groupings, sampler="rwy", seed=0)
    wanted = "warning: rwy never draws 7 of 14 examples, as no balanced weighting can"
    assert plan.notes[0] == wanted
    assert (plan.weights[2:9] == 0).all()
    assert not set(epoch_positions(plan, 0, 1)) & set(range(2, 9))


def test_a_share_under_one_percent_is_a_warning():
    labels = np.zeros((1000, 1), np.uint8)
    labels[:4] = 1
    plan = make_plan(labels, None, BLOND, subsample_type="suby", seed=0)
    share = "suby keeps 8 of 1,000 examples (0.80 %)"
    assert plan.notes[0] == share and plan.notes[1].startswith(f"warning: {share}, under 1 %")
    labels[:5] = 1  # 10 of 1,000 are 1 %, no longer under it
    assert len(make_plan(labels, None, BLOND, subsample_type="suby", seed=0).notes) == 1


def test_without_group_labels_class_methods_work_and_group_methods_say_what_to_set():
    make_plan(LABELS, None, BLOND, sampler="rwy", subsample_type="suby", seed=0)
    for name in ("rwg", "subg"):
        with pytest.raises(
            UserError, match=f"{name} needs group labels: set .*subgroup_labels=true"
        ):
            make_plan(LABELS, None, BLOND, seed=0, **method(name))


def test_a_conflict_names_the_groupings():
    groupings = parse_groupings(["Young:Male", "Bangs"])
    # Bangs goes with group 3 of Young:Male alone: 1/4 and 1/2 cannot both hold.
    groups = np.array([[0, 0], [1, 0], [2, 0], [3, 1]] * 3)
    with pytest.raises(UserError, match=r"rwg: no weights balance .* at once: Bangs, Young:Male;"):
        make_plan(groups % 2, groups, groupings, sampler="rwg", seed=0)


# The complete annotations


@pytest.fixture(scope="module")
def attributes():
    """The train split (162770, 40) of the complete annotations: in CELEBA_ROOT or beside it."""
    root = Path(os.environ.get("CELEBA_ROOT", "nowhere"))
    for folder in (root, root.parent / "celeba_annotations"):
        if (folder / "list_attr_celeba.txt").exists():
            train = load_annotations(folder).of_split("train")
            if len(train) == 162_770:
                return train.codes
    pytest.skip("needs the complete annotations: set CELEBA_ROOT")


def size_of(plan):
    if plan.weights is None:
        return len(plan.positions)
    return round(effective_sample_size(plan.weights))


@pytest.mark.celeba
@pytest.mark.parametrize(
    ("name", "size"), [("suby", 48_534), ("subg", 4_904), ("rwy", 61_780), ("rwg", 2_351)]
)
def test_worked_case_of_two_tasks(attributes, name, size):
    labels, groups, groupings = labels_and_groups(
        attributes, ["Blond_Hair:Male", "Big_Lips:Chubby"]
    )
    assert size_of(make_plan(labels, groups, groupings, seed=0, **method(name))) == size


@pytest.mark.celeba
def test_two_hair_colours_with_hats_have_a_forced_zero(attributes):
    # Blond and brown hair exclude each other. 1/4 of the weight is blond with a hat and 1/4 brown
    # with a hat; that is all there is for hats, so nobody else with a hat is drawn.
    names = ["Blond_Hair:Wearing_Hat", "Brown_Hair:Wearing_Hat"]
    labels, groups, groupings = labels_and_groups(attributes, names)
    plan = make_plan(labels, groups, groupings, seed=0, sampler="rwg")
    others = (groups == 1).all(1)
    assert "never draws 7,672 of 162,770 examples" in plan.notes[0]
    assert others.sum() == 7_672 and (plan.weights[others] == 0).all()
    assert (plan.weights[~others] > 0).all()


@pytest.mark.celeba
def test_tasks_that_share_their_attribute_are_balanced(attributes):
    names = ["Wearing_Earrings:Male", "Attractive:Male"]
    labels, groups, groupings = labels_and_groups(attributes, names)
    kept = make_plan(labels, groups, groupings, seed=0, subsample_type="subg").positions
    assert len(kept) == 4_236
    assert [np.bincount(column).tolist() for column in groups[kept].T] == [[1_059] * 4] * 2


def test_epochs_of_a_schedule_may_differ_in_length():
    plans = (IndexPlan(np.arange(10)), IndexPlan(np.arange(25)))
    schedule = Schedule(((1, plans[0]), (4, plans[1])))
    # Batches of 8: 2 steps in epochs 1 to 3, then 3 (the single leftover joins the third batch).
    assert [len(schedule.batches(0, epoch, 8)) for epoch in (1, 3, 4, 9)] == [2, 2, 3, 3]
    assert [schedule.total_steps(epochs, 8) for epochs in (1, 3, 4, 5)] == [2, 6, 9, 12]
    assert [schedule.epoch_of(step, 8) for step in (1, 2, 3, 6, 7, 9, 10)] == [1, 1, 2, 3, 4, 4, 5]
    assert schedule.positions().tolist() == [*range(25)]


def test_rows_of_unknown_group_are_left_out_and_counted():
    levels = Levels("rwg", np.array([[0], [1], [-1], [1]]), ("t",), (("a", "b"),))
    plan = reweight(erm(4), levels)
    assert plan.positions.tolist() == [0, 1, 3]
    assert plan.weights.tolist() == [1.0, 0.5, 0.5]
    assert "rwg leaves out 1 examples of unknown group" in plan.notes
    subset = subsample(Levels("subg", levels.values, ("t",), (("a", "b"),)), seed=0)
    assert len(subset.positions) == 2 and 0 in subset.positions and 2 not in subset.positions


def test_halves_of_validation_hold_half_of_every_joint_group():
    groups = np.array([[0, 0]] * 5 + [[1, 0]] * 4 + [[1, 1]])
    fit, select = stratified_halves(groups, seed=3)
    assert sorted([*fit, *select]) == [*range(10)]
    assert [np.sum(groups[fit, 0] == 0), np.sum(groups[select, 0] == 0)] == [3, 2]
    assert [np.sum(groups[fit, 0] == 1), np.sum(groups[select, 0] == 1)] == [3, 2]
    again = stratified_halves(groups, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip((fit, select), again))
