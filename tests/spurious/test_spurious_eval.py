"""The matrix from trained models to table, clusters, figures and page."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from scripts import run_create_spurious_matrix, spurious_eval, spurious_task
from scripts.run_create_spurious_matrix import find_models
from src.api import open_run
from src.config.compose import load_config
from src.config.saved import save_config
from src.data.celeba import ATTRIBUTES
from src.data.table import Table
from src.evaluation.evaluator import RunEvaluator
from src.io import UserError, read_json, write_json
from src.runs.folder import Run
from src.spurious.delta import binary_columns, codes
from src.spurious.explorer import choose_faces, cover
from src.spurious.matrix import build_matrix, phi_rank_correlation
from src.spurious.results import (
    Evaluated,
    finished,
    read_evaluated,
    refuse_other_data,
)
from tests.data.small_celeba import write_annotations
from tests.planted_matrix import EVALUATED, LEANS_ON, make_run, write_planted

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def planted_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    write_planted(folder)
    return folder


@pytest.fixture
def planted(planted_once, tmp_path):
    """A copy of the planted matrix folder; its runs stay where they are."""
    return Path(shutil.copytree(planted_once, tmp_path / "eval"))


def read(folder: Path) -> Evaluated:
    summaries = list(finished(folder))
    evaluator = RunEvaluator(open_run(summaries[0].run))
    return read_evaluated(summaries, evaluator.rows("val"), evaluator.rows("train"))


# ---------------------------------------------------------------------------- the folder


def test_a_pair_json_holds_groups_counts_and_delta(planted):
    pair = read_json(planted / "Blond_Hair" / "Male.json")
    rows = read(planted).rows
    y, a = rows.column("Blond_Hair"), rows.column("Male")
    assert [g["total"] for g in pair["groups"]] == [
        int(((y == k // 2) & (a == k % 2)).sum()) for k in range(4)
    ]
    accuracy = [100 * g["correct"] / g["total"] for g in pair["groups"]]
    signed = accuracy[0] + accuracy[3] - accuracy[1] - accuracy[2]
    assert pair["signed_delta"] == pytest.approx(signed)
    assert pair["delta"] == pytest.approx(abs(signed))
    assert pair["p"] < 1e-6
    assert pair["groups"][1]["name"] == "Blond_Hair=0 Male=1"
    assert len(list((planted / "Blond_Hair").glob("*.json"))) == 39 + 1
    rows = (planted / "Blond_Hair" / "summary.csv").read_text().splitlines()
    assert rows[0] == ("attribute,delta,signed_delta,se,p,tested,acc0,acc1,acc2,acc3,n0,n1,n2,n3")
    assert len(rows) == 40


def change_summary(folder: Path, task: str, **changes: str) -> None:
    path = folder / task / "summary.json"
    write_json(path, read_json(path, dict) | changes)


def test_results_of_other_data_are_not_mixed_in(planted):
    data = next(finished(planted)).data
    refuse_other_data(planted, "val", data, "here")
    with pytest.raises(UserError, match="choose another --json_dir"):
        refuse_other_data(planted, "val", "other", "here")
    with pytest.raises(UserError, match=r"val split of .* this one is of the test split"):
        refuse_other_data(planted, "test", data, "here")
    change_summary(planted, "Male", data="other")
    with pytest.raises(UserError, match="other data than the results of Male"):
        read(planted)


def test_logits_that_are_gone_or_changed_are_named(planted):
    summary = read_json(planted / "Male" / "summary.json", dict)
    change_summary(planted, "Male", logits="nowhere.npz")
    with pytest.raises(UserError, match=r"nowhere.npz.*run_create_spurious_matrix"):
        read(planted)
    change_summary(planted, "Male", logits=summary["logits"])
    change_summary(planted, "Male", checkpoint=summary["checkpoint"] | {"hash": "new"})
    with pytest.raises(UserError, match="another model"):
        read(planted)
    write_json(planted / "Male" / "summary.json", {"pairs": [{}]})
    with pytest.raises(UserError, match=r"summary\.json cannot be used"):
        read(planted)


def test_columns_without_two_classes_are_refused():
    classes = (("0", "1"), ("red", "green", "blue"))
    table = Table(np.array([]), np.array([]), np.zeros((0, 2)), ("round", "colour"), classes)
    assert binary_columns(table) == ("round",)
    with pytest.raises(UserError, match="column 'colour' has 3 classes"):
        binary_columns(table, ["round", "colour"])
    with pytest.raises(UserError, match="did you mean 'round'"):
        binary_columns(table, ["rund"])


# ---------------------------------------------------------------------------- the matrix


def test_the_planted_pairs_have_the_largest_deltas_and_tiny_q_values(planted):
    pairs = [pair for pair in build_matrix(read(planted)).pairs if pair["tested"]]
    strongest = sorted(pairs, key=lambda pair: -pair["delta"])[:5]
    assert {(p["task"], p["attribute"]) for p in strongest} == {
        of for of in LEANS_ON.items() if of[1]
    }
    assert all(pair["q"] < 1e-6 for pair in strongest)


def test_the_rank_correlation_of_phi_and_delta_is_one_where_delta_follows_phi(planted):
    matrix = build_matrix(read(planted))
    assert abs(phi_rank_correlation(matrix)) < 0.3  # planted without regard to the labels
    for pair in matrix.pairs:
        pair["delta"] = pair["phi"] and pair["phi"] ** 2
    assert phi_rank_correlation(matrix) == pytest.approx(1)


ARGUMENTS = ["--gamma", "0.9", "--k", "3", "--resamples", "4"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_spurious_eval_writes_the_sorted_table_the_clusters_and_the_page(
    planted, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(spurious_eval, "plot_matrix", lambda *_: None)
    call = ["--json_dir", str(planted), "--out_dir", str(tmp_path / "svd")]
    spurious_eval.main([*call, *ARGUMENTS])
    rows = (tmp_path / "svd" / "spurious_correlations.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 * 39
    strongest = {tuple(row.split(",")[:2]) for row in rows[1:6]}
    assert strongest == {(task, name) for task, name in LEANS_ON.items() if name}
    summary = read_json(tmp_path / "svd" / "clusters.json")
    members = [name for c in summary["clusters"]["svd_tasks"] for name in c["rows"]]
    assert sorted(members) == sorted(LEANS_ON)
    assert summary["tested"] == 6 * 37  # Bald is never there, Mustache three times
    assert (planted / "index.html").exists()
    assert "Blond_Hair:Male" in capsys.readouterr().out


@pytest.mark.slow
def test_two_runs_of_spurious_eval_write_identical_files(planted, tmp_path):
    call = ["--json_dir", str(planted), *ARGUMENTS, "--figures", "all", "--out_dir"]
    spurious_eval.main([*call, str(tmp_path / "one")])
    page = (planted / "index.html").read_bytes()
    spurious_eval.main([*call, str(tmp_path / "two")])
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "two")
    assert page == (planted / "index.html").read_bytes()
    assert {
        "spurious_correlations.csv",
        "clusters.json",
        "deltas.png",
        "bicluster_T.png",
        "bicluster_TA.png",
        "bicluster_TT.png",
        "svd_attributes.png",
        "svd_tasks.png",
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
    call = ["--json_dir", str(planted), "--out_dir", str(tmp_path / "out"), *ARGUMENTS]
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


def test_faces_come_with_their_labels_and_the_predictions(tmp_path, tiny_celeba):
    make_run(tmp_path / "run", tiny_celeba, ["Male"])
    spurious_task.main(["--log_dir", str(tmp_path / "run"), "--json_dir", str(tmp_path / "eval")])
    evaluated = read(tmp_path / "eval")
    dataset = RunEvaluator(open_run(tmp_path / "run")).dataset
    faces = choose_faces(evaluated, dataset, 1)
    assert 1 < len(faces) <= len(evaluated.rows)
    values = codes(evaluated.rows, evaluated.attributes)
    for face in faces:
        assert face["src"].startswith("data:image/jpeg;base64,")
        row = int(np.flatnonzero((values == [int(bit) for bit in face["attributes"]]).all(1))[0])
        assert face["labels"] == str(evaluated.rows.column("Male")[row])
        assert face["right"] == str(int(evaluated.right[row, 0]))


# ---------------------------------------------------------------------------- jobs


@pytest.fixture
def models(tmp_path):
    """A tiny CelebA without images, and finished runs of Male and Young with their logits."""
    write_annotations(tmp_path / "celeba", [0] * 60 + [1] * 50 + [2] * 10)
    for task in ("Male", "Young"):
        add_run(tmp_path, [task])
    return tmp_path


def add_run(folder: Path, tasks: list[str], state: str = "done") -> Run:
    path = folder / "runs" / "-".join(tasks) / "lr0.1-seed0"
    return make_run(path, folder / "celeba", tasks, state)


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_job_writes_all_pairs_of_its_task(models):
    run = models / "runs" / "Male" / "lr0.1-seed0"
    call = ["--log_dir", str(run), "--json_dir", str(models / "eval")]
    spurious_task.main(call)
    pairs = {f"{name}.json" for name in ATTRIBUTES if name != "Male"}
    assert files_of(models / "eval" / "Male") == pairs | {"summary.json", "summary.csv"}
    spurious_task.main([*call, "--figures", "all"])
    assert "groups.png" in files_of(models / "eval" / "Male")


def test_a_job_counts_as_test_py_does(models):
    import test as entrypoint

    run = models / "runs" / "Male" / "lr0.1-seed0"
    spurious_task.main(["--log_dir", str(run), "--json_dir", str(models / "eval")])
    call = ["--log_dir", str(run), "--split", "val", "--ckpt_num", "best-avg"]
    entrypoint.main([*call, "--groupings", "Male:Young", "Male:Bald"])
    by_test = read_json(run / "results" / "val_stats_best-avg.json", dict)
    for name in ("Young", "Bald"):
        pair = read_json(models / "eval" / "Male" / f"{name}.json", dict)
        assert pair["groups"] == by_test[f"Male:{name}"]["groups"]


def test_attributes_and_tasks_restrict_the_matrix(models, capsys):
    chosen = ["--attributes", "Young", "Bald", "Smiling"]
    assert matrix_script(models, "--tasks", "Male", *chosen) == 0
    (command,) = capsys.readouterr().out.splitlines()
    spurious_task.main(command.split()[3:])
    expected = {"Young.json", "Bald.json", "Smiling.json", "summary.json", "summary.csv"}
    assert files_of(models / "eval" / "Male") == expected
    matrix_script(models, "--tasks", "Male", *chosen)
    assert capsys.readouterr().out.count("\n") == 1  # only that of the job
    call = ["--json_dir", str(models / "eval"), "--out_dir", str(models / "svd")]
    spurious_eval.main([*call, "--k", "1", "--resamples", "1"])
    clusters = read_json(models / "svd" / "clusters.json", dict)["clusters"]
    assert clusters["bicluster_T"][0]["rows"] == ["Bald", "Smiling", "Young"]
    assert "bicluster_TT" not in clusters  # Male is not among the attributes


def test_an_interrupted_job_goes_on_and_a_finished_task_is_not_written_again(models, monkeypatch):
    add_run(models, ["Male", "Young"])
    call = ["--json_dir", str(models / "eval"), "--log_dir"]
    call.append(str(models / "runs" / "Male-Young" / "lr0.1-seed0"))
    real = spurious_task.write_task

    def fail_at_the_second(folder, summary, pairs):
        if summary.task == "Young":
            raise KeyboardInterrupt
        real(folder, summary, pairs)

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
    add_run(models, ["Smiling"], state="failed")
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
    stats = EVALUATED | {"checkpoint": EVALUATED["checkpoint"] | {"hash": "trained anew"}}
    write_json(Run(run).epoch_stats(1), stats)
    matrix_script(models)
    assert len(capsys.readouterr().out.splitlines()) == 2
    # Another split is another matrix.
    write_json(Run(run).epoch_stats(1), EVALUATED)
    matrix_script(models, "--split", "train")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_jtt_run_is_evaluated_by_its_second_stage_and_skipped_once_it_is(models, capsys):
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
    add_run(models, ["Male"])
    second = add_run(models, ["Young"])
    second.path.rename(models / "runs" / "Young" / "lr0.2-seed0")
    add_run(models, ["Young"])
    with pytest.raises(UserError, match="two models of Young"):
        find_models(models / "runs", shared=False)


def test_shared_takes_the_network_of_several_tasks_and_fills_a_folder_for_each(models, capsys):
    add_run(models, ["Male", "Young", "Smiling"])
    assert [tasks for _, tasks in find_models(models / "runs", shared=False)] == [
        ("Male",),
        ("Young",),
    ]
    ((run, tasks),) = find_models(models / "runs", shared=True)
    assert tasks == ("Male", "Smiling", "Young")
    spurious_task.main(["--log_dir", str(run.path), "--json_dir", str(models / "eval")])
    assert [found.task for found in finished(models / "eval")] == ["Male", "Smiling", "Young"]
    capsys.readouterr()
    matrix_script(models, "--shared")
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_job_forwards_each_image_once_and_not_once_per_pair(
    run_entrypoint, tiny_overrides, tmp_path, monkeypatch
):
    import src.evaluation.evaluator

    run = Run(tmp_path / "run")
    overrides = [*tiny_overrides, "exp.dataset.groupings=[Male]"]
    code, output = run_entrypoint("train_erm.py", *overrides, f"exp.train.log_dir={run.path}")
    assert code == 0, output
    forwarded = []
    real = src.evaluation.evaluator.predict

    def counting(model, images, count, *rest, **options):
        forwarded.append(count)
        return real(model, images, count, *rest, **options)

    monkeypatch.setattr(src.evaluation.evaluator, "predict", counting)
    run.logits("val", 1).unlink()
    spurious_task.main(["--log_dir", str(run.path), "--json_dir", str(tmp_path / "eval")])
    assert forwarded == [24]
