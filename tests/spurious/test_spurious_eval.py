"""The matrix from trained models to table, clusters, pictures and page."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts import run_create_spurious_matrix, spurious_eval, spurious_task
from scripts.run_create_spurious_matrix import find_models
from src.config.compose import load_config
from src.config.saved import save_config
from src.data.celeba import load_annotations
from src.data.groupings import ATTRIBUTES, COLUMN
from src.evaluation.logits import Logits, Source, rows_identity, save_logits
from src.io import UserError, read_json, write_json
from src.runs.folder import Run
from src.runs.selection import record_validation
from src.spurious.matrix import build_matrix, phi_rank_correlation
from src.spurious.results import read_labels, read_tasks, write_labels, write_task
from src.spurious.thumbnails import choose_thumbnails, cover
from tests.data.small_celeba import write_annotations
from tests.planted_matrix import LEANS_ON, planted_labels, planted_task, write_planted

OF_ABC = {"checkpoint": {"name": "1", "epoch": "1", "hash": "abc"}, "split": "val"}


@pytest.fixture(scope="session")
def planted_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    return folder, write_planted(folder)


@pytest.fixture
def planted(planted_once, tmp_path):
    """A copy of the planted matrix folder, and its labels."""
    return Path(shutil.copytree(planted_once[0], tmp_path / "eval")), planted_once[1]


# ---------------------------------------------------------------------------- the folder


def test_what_is_written_is_read_back(planted):
    folder, labels = planted
    there = read_labels(folder)
    assert np.array_equal(there.attributes, labels.attributes)
    assert there.names.tolist() == labels.names.tolist()
    results = read_tasks(folder)
    assert [result.task for result in results] == sorted(LEANS_ON, key=ATTRIBUTES.index)
    expected = planted_task(labels, results[0].task)
    others = [row for row, name in enumerate(ATTRIBUTES) if name != results[0].task]
    assert np.array_equal(results[0].correct[others], expected.correct[others])
    assert np.array_equal(results[0].right, expected.right)


def test_a_pair_json_tells_groups_counts_and_delta(planted):
    folder, labels = planted
    pair = read_json(folder / "Blond_Hair" / "Male.json")
    y, a = (labels.attributes[:, COLUMN[name]] for name in ("Blond_Hair", "Male"))
    assert [g["total"] for g in pair["groups"]] == [
        int(((y == k // 2) & (a == k % 2)).sum()) for k in range(4)
    ]
    accuracy = [100 * g["correct"] / g["total"] for g in pair["groups"]]
    signed = accuracy[0] + accuracy[3] - accuracy[1] - accuracy[2]
    assert pair["signed_delta"] == pytest.approx(signed)
    assert pair["delta"] == pytest.approx(abs(signed))
    assert pair["p"] < 1e-6
    assert pair["groups"][1]["name"] == "Blond_Hair=0 Male=1"
    assert len(list((folder / "Blond_Hair").glob("*.json"))) == 39 + 1


def test_an_attribute_that_is_never_there_is_null_in_json(planted):
    folder, _ = planted
    pair = read_json(folder / "Smiling" / "Bald.json")
    assert (pair["delta"], pair["se"], pair["p"], pair["tested"]) == (None, None, None, False)
    assert pair["groups"][1]["acc"] is None


def test_results_of_other_data_are_not_mixed_in(planted):
    folder, labels = planted
    with pytest.raises(UserError, match="choose another --json_dir"):
        write_labels(folder, planted_labels(count=900))
    with pytest.raises(UserError, match="val split of nowhere, this one is of the test split"):
        write_labels(folder, planted_labels(split="test"))
    write_task(folder, replace(planted_task(labels, "Male"), data="other"))
    with pytest.raises(UserError, match="Male were evaluated on other data"):
        read_tasks(folder)


def test_counts_that_are_not_those_of_the_predictions_are_refused(planted):
    folder, _ = planted
    path = folder / "Male" / "summary.json"
    summary = read_json(path)
    summary["pairs"][0]["groups"][0]["correct"] += 1
    write_json(path, summary)
    with pytest.raises(UserError, match=r"Male: summary\.json and predictions\.npz disagree"):
        read_tasks(folder)


def test_damaged_files_are_named(planted):
    folder, _ = planted
    (folder / "Male" / "predictions.npz").write_bytes(b"PK no")
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        read_tasks(folder)
    write_json(folder / "Male" / "summary.json", {"pairs": [{}]})
    with pytest.raises(UserError, match=r"summary\.json cannot be used"):
        read_tasks(folder)
    with pytest.raises(UserError, match="no finished task"):
        read_tasks(folder / "Male")


# ---------------------------------------------------------------------------- the matrix


def test_the_planted_pairs_have_the_largest_deltas_and_tiny_q_values(planted):
    folder, labels = planted
    matrix = build_matrix(read_tasks(folder), labels)
    tested = np.where(matrix.tested, matrix.delta, -1)
    for column, task in enumerate(matrix.tasks):
        if LEANS_ON[task] is not None:
            row = COLUMN[LEANS_ON[task]]
            assert np.argmax(tested[:, column]) == row
            assert matrix.q[row, column] < 1e-6
    planted = [
        COLUMN[name] * 6 + k for k, name in enumerate(map(LEANS_ON.get, matrix.tasks)) if name
    ]
    assert set(np.argsort(-tested.ravel())[: len(planted)]) == set(planted)


def test_the_rank_correlation_of_phi_and_delta_is_one_where_delta_follows_phi(planted):
    folder, labels = planted
    matrix = build_matrix(read_tasks(folder), labels)
    assert phi_rank_correlation(replace(matrix, delta=np.abs(matrix.phi) ** 2)) == pytest.approx(1)
    assert abs(phi_rank_correlation(matrix)) < 0.3  # planted without regard to the labels


ARGUMENTS = ["--gamma", "0.9", "--k", "3", "--resamples", "4"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_spurious_eval_writes_the_sorted_table_the_clusters_and_the_page(
    planted, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(spurious_eval, "plot_all", lambda *_: None)
    folder, _ = planted
    call = ["--json_dir", str(folder), "--out_dir", str(tmp_path / "svd")]
    spurious_eval.main([*call, *ARGUMENTS])
    rows = (tmp_path / "svd" / "spurious_correlations.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 * 39
    strongest = {tuple(row.split(",")[:2]) for row in rows[1:6]}
    assert strongest == {(task, name) for task, name in LEANS_ON.items() if name}
    summary = read_json(tmp_path / "svd" / "clusters.json")
    members = [name for c in summary["clusters"]["svd_tasks"] for name in c["rows"]]
    assert sorted(members) == sorted(LEANS_ON)
    assert summary["tested"] == 6 * 37  # Bald is never there, Mustache three times
    assert (folder / "index.html").exists()
    assert "Blond_Hair:Male" in capsys.readouterr().out


@pytest.mark.slow
def test_two_runs_of_spurious_eval_write_identical_files(planted, tmp_path):
    folder, _ = planted
    call = ["--json_dir", str(folder), *ARGUMENTS, "--out_dir"]
    spurious_eval.main([*call, str(tmp_path / "one")])
    page = (folder / "index.html").read_bytes()
    spurious_eval.main([*call, str(tmp_path / "two")])
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    assert page == (folder / "index.html").read_bytes()
    assert {
        "spurious_correlations.csv",
        "clusters.json",
        "deltas.png",
        "bicluster_T.png",
        "bicluster_TA.png",
        "bicluster_TT.png",
        "svd_attributes.png",
        "svd_tasks.png",
        "stability_svd_tasks_rows.png",
        "singular_values.png",
        "deltas_heatmap.png",
        "deltas_histogram.png",
        "label_correlation.png",
    } <= set(first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gamma", "1.5"], "--gamma 1.5"),
        (["--k", "7"], "--k 7"),
        (["--resamples", "0"], "--resamples 0"),
        (["--json_dir", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_argument_of_spurious_eval_ends_with_2_and_its_name(
    planted, tmp_path, capsys, arguments, message
):
    folder, _ = planted
    call = ["--json_dir", str(folder), "--out_dir", str(tmp_path / "out"), *ARGUMENTS]
    with pytest.raises(SystemExit) as ended:
        spurious_eval.main([*call, *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------- faces


def test_a_cover_shows_every_combination_that_exists():
    attributes = np.random.default_rng(2).integers(0, 2, (200, 6), dtype=np.uint8)
    attributes[:, 0] = 0
    chosen = attributes[cover(attributes, 2)]
    assert len(chosen) < 60
    for a in range(6):
        for b in range(6):
            for values in ((0, 0), (0, 1), (1, 0), (1, 1)):
                available, shown = (
                    int(((part[:, a] == values[0]) & (part[:, b] == values[1])).sum())
                    for part in (attributes, chosen)
                )
                assert shown >= min(available, 2)


def test_faces_come_with_their_attributes_and_the_predictions(tmp_path, tiny_celeba):
    rows = load_annotations(tiny_celeba, tmp_path / "cache").of_split("val")
    labels = replace(
        planted_labels(), names=rows.names, attributes=rows.codes, root=str(tiny_celeba)
    )
    result = planted_task(labels, "Male")
    faces = choose_thumbnails([result], labels, 1)
    assert 1 < len(faces) <= len(rows)
    for face in faces:
        assert face["src"].startswith("data:image/jpeg;base64,")
        bits = np.array([int(bit) for bit in face["attributes"]])
        row = int(np.flatnonzero((rows.codes == bits).all(1))[0])
        assert face["right"] == str(int(result.right[row]))


# ---------------------------------------------------------------------------- jobs


@pytest.fixture
def models(tmp_path):
    """A tiny CelebA without images, and finished runs of Male and Young with their logits."""
    write_annotations(tmp_path / "celeba", [0] * 60 + [1] * 50 + [2] * 10)
    for task in ("Male", "Young"):
        make_run(tmp_path, [task])
    return tmp_path


def make_run(folder: Path, tasks: list[str], state: str = "done") -> Run:
    """What a trained run leaves behind: its predictions need neither network nor images."""
    run = Run(folder / "runs" / "-".join(tasks) / "lr0.1-seed0")
    config = load_config(
        [
            f"exp.dataset.root={folder / 'celeba'}",
            f"exp.dataset.cache_dir={folder / 'cache'}",
            f"exp.dataset.groupings=[{','.join(tasks)}]",
            f"exp.train.log_dir={run.path}",
        ]
    )
    save_config(config, run.config)
    rows = load_annotations(folder / "celeba", folder / "cache").of_split("val")
    values = np.random.default_rng(COLUMN[tasks[0]]).normal(size=(len(rows), len(tasks)))
    source = Source("val", "1", "abc", rows_identity(rows.names, rows.codes))
    logits = Logits(values, tuple(tasks), (2,) * len(tasks), source)
    save_logits(run.logits("val", 1), logits)
    write_json(run.epoch_stats(1), OF_ABC)
    record_validation(run, 1, {"best-avg": 0.5})
    run.set_status(state=state)
    return run


def test_a_job_writes_its_task_from_one_call_of_test_with_all_39_groupings(models, monkeypatch):
    import test as entrypoint

    calls = []
    real = entrypoint.main
    monkeypatch.setattr(entrypoint, "main", lambda argv: (calls.append(argv), real(argv)))
    run = models / "runs" / "Male" / "lr0.1-seed0"
    spurious_task.main(["--log_dir", str(run), "--json_dir", str(models / "eval")])
    assert len(calls) == 1
    asked = json.loads(calls[0][calls[0].index("--groupings") + 1])
    assert asked == [f"Male:{name}" for name in ATTRIBUTES if name != "Male"]
    files = {path.name for path in (models / "eval" / "Male").iterdir()}
    assert files == {f"{name}.json" for name in ATTRIBUTES if name != "Male"} | {
        "summary.json",
        "summary.csv",
        "predictions.npz",
        "group_accuracy.png",
        "group_size.png",
        "delta.png",
    }
    # Matrix products and test.py count the same.
    by_test = read_json(run / "results" / "val_stats_best-avg.json")
    for name in ("Young", "Bald"):
        pair = read_json(models / "eval" / "Male" / f"{name}.json")
        assert pair["groups"] == by_test[f"Male:{name}"]["groups"]


def test_an_interrupted_job_goes_on_and_a_finished_task_is_not_written_again(models, monkeypatch):
    monkeypatch.setattr(spurious_task, "plot_task", lambda *_: None)
    make_run(models, ["Male", "Young"])
    call = ["--json_dir", str(models / "eval"), "--log_dir"]
    call.append(str(models / "runs" / "Male-Young" / "lr0.1-seed0"))
    real = spurious_task.write_task

    def fail_at_the_second(folder, result):
        if result.task == "Young":
            raise KeyboardInterrupt
        real(folder, result)

    monkeypatch.setattr(spurious_task, "write_task", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        spurious_task.main(call)
    before = (models / "eval" / "Male" / "summary.json").stat().st_mtime_ns
    monkeypatch.setattr(spurious_task, "write_task", real)
    spurious_task.main(call)
    assert (models / "eval" / "Male" / "summary.json").stat().st_mtime_ns == before
    assert (models / "eval" / "Young" / "summary.json").exists()


def matrix_script(folder: Path, *arguments: str) -> int:
    call = ["--meta_log_dir", str(folder / "runs"), "--json_dir", str(folder / "eval")]
    return run_create_spurious_matrix.main([*call, *arguments])


def test_the_matrix_script_prints_a_command_per_model_and_names_what_has_none(models, capsys):
    make_run(models, ["Smiling"], state="failed")
    assert matrix_script(models, "--", "--device", "cpu") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("python -m scripts.spurious_task --log_dir ")
    assert lines[0].endswith("--split val --ckpt_num best-avg --device cpu")
    assert "no trained model, left out: 5_o_Clock_Shadow, Arched_Eyebrows" in printed.err
    assert "Smiling (failed)" in printed.err
    assert not (models / "eval").exists()


def test_finished_tasks_are_skipped_until_their_model_has_changed(models, capsys):
    run = models / "runs" / "Male" / "lr0.1-seed0"
    spurious_task.main(["--log_dir", str(run), "--json_dir", str(models / "eval")])
    capsys.readouterr()
    matrix_script(models)
    assert [line.split("/runs/")[1][:5] for line in capsys.readouterr().out.splitlines()] == [
        "Young"
    ]
    stats = OF_ABC | {"checkpoint": OF_ABC["checkpoint"] | {"hash": "trained anew"}}
    write_json(Run(run).epoch_stats(1), stats)
    matrix_script(models)
    assert len(capsys.readouterr().out.splitlines()) == 2
    # Another split is another matrix.
    write_json(Run(run).epoch_stats(1), OF_ABC)
    matrix_script(models, "--split", "train")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_jtt_run_is_evaluated_by_its_second_stage_and_skipped_once_it_is(
    models, capsys, monkeypatch
):
    monkeypatch.setattr(spurious_task, "plot_task", lambda *_: None)
    whole = models / "runs" / "Male" / "jtt-seed0"
    Run(models / "runs" / "Male" / "lr0.1-seed0").path.rename(models / "stage_2")
    whole.mkdir()
    (models / "stage_2").rename(whole / "stage_2")
    config = load_config(["exp=jtt", "exp.groupings=[Male]", "exp.train.log_dir=x"])
    save_config(config, Run(whole).config)
    Run(whole).set_status(state="done")
    assert matrix_script(models) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 2 and f"--log_dir {whole} " in commands[0]
    spurious_task.main(["--log_dir", str(whole), "--json_dir", str(models / "eval")])
    capsys.readouterr()
    assert matrix_script(models) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_two_models_of_one_task_and_no_model_at_all_are_errors(models):
    with pytest.raises(UserError, match="--shared --mode shell"):
        find_models(models / "runs", shared=True)
    make_run(models, ["Male"])
    second = make_run(models, ["Young"])
    second.path.rename(models / "runs" / "Young" / "lr0.2-seed0")
    make_run(models, ["Young"])
    with pytest.raises(UserError, match="two models of Young"):
        find_models(models / "runs", shared=False)


def test_shared_takes_the_network_of_several_tasks_and_fills_a_folder_for_each(
    models, capsys, monkeypatch
):
    monkeypatch.setattr(spurious_task, "plot_task", lambda *_: None)
    make_run(models, ["Male", "Young", "Smiling"])
    assert [tasks for _, tasks in find_models(models / "runs", shared=False)] == [
        ("Male",),
        ("Young",),
    ]
    ((run, tasks),) = find_models(models / "runs", shared=True)
    assert tasks == ("Male", "Young", "Smiling")
    spurious_task.main(["--log_dir", str(run.path), "--json_dir", str(models / "eval")])
    assert [result.task for result in read_tasks(models / "eval")] == ["Male", "Smiling", "Young"]
    capsys.readouterr()
    matrix_script(models, "--shared")
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_matrix_script_runs_its_jobs_here_and_the_table_chooses_groupings(models, capfd):
    assert matrix_script(models, "--mode", "shell") == 0
    assert [result.task for result in read_tasks(models / "eval")] == ["Male", "Young"]
    call = ["--json_dir", str(models / "eval"), "--out_dir", str(models / "svd")]
    spurious_eval.main([*call, "--k", "2", "--resamples", "2"])
    assert matrix_script(models, "--mode", "shell") == 0
    assert "0 runs to start" in capfd.readouterr().err


@pytest.mark.slow
def test_a_job_forwards_each_image_once_where_a_pass_per_pair_would_39_times(
    run_entrypoint, tiny_overrides, tmp_path, monkeypatch
):
    import src.evaluation.inference

    import test as entrypoint

    run = Run(tmp_path / "run")
    overrides = [*tiny_overrides, "exp.dataset.groupings=[Male]"]
    code, output = run_entrypoint("train_erm.py", *overrides, f"exp.train.log_dir={run.path}")
    assert code == 0, output
    forwarded = []
    real = src.evaluation.inference.predict

    def counting(model, images, count, *rest, **options):
        forwarded.append(count)
        return real(model, images, count, *rest, **options)

    monkeypatch.setattr(src.evaluation.inference, "predict", counting)
    run.logits("val", 1).unlink()
    spurious_task.main(["--log_dir", str(run.path), "--json_dir", str(tmp_path / "eval")])
    assert forwarded == [24]
    forwarded.clear()
    for name in ATTRIBUTES:
        if name != "Male":
            run.logits("val", 1).unlink()
            call = ["--log_dir", str(run.path), "--split", "val", "--groupings", f"Male:{name}"]
            entrypoint.main(call)
    assert sum(forwarded) == 39 * 24
