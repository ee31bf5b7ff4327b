"""The report page in a real browser, from the file system, without network."""

import pytest

from src.report.page import write_report_page
from tests.report_example import LIPS, PAIR, example_report, write_runs

pytestmark = pytest.mark.browser

FAMILIES = {
    "disjoint": [PAIR],
    "nondisjoint": [["Attractive:Male", "Smiling:Male"]],
    "ablate_disjoint": [PAIR],
}
HOSTILE = "logs/'\"</script><img src=x onerror=document.title='owned'>\nnext line"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    report = example_report(str(root / "logs"))
    write_runs(report)
    explorer = root / "eval" / "index.html"
    explorer.parent.mkdir()
    explorer.write_text("<!doctype html><title>explorer</title>")
    return write_report_page(report, root / "out", FAMILIES, explorer)


@pytest.fixture
def page(page_file, open_page):
    return open_page(page_file)


def texts(page, column: int) -> list[str]:
    """The first line of a column's cells, from the top."""
    cells = page.locator(f"#table tbody tr.line > td:nth-child({column})").all_inner_texts()
    return [text.split("\n")[0] for text in cells]


def columns(page) -> list[str]:
    return [name.rstrip(" ↕↑↓") for name in page.locator("#table thead button").all_inner_texts()]


def worst(page) -> list[float]:
    at = columns(page).index("worst group %") + 1
    return [float(text.split()[0]) for text in texts(page, at)]


def sort_by(page, name: str):
    page.click(f"#table thead button >> text='{name}'")


def row(page, method: str, task: str, several: bool):
    company = "with" if several else "alone"
    return (
        page.locator("#table tr.line", has_text=method)
        .filter(has=page.locator(".open", has_text=task))
        .filter(has=page.locator("td:first-child .under", has_text=company))
    )


def test_a_number_stands_with_its_std_interval_worst_group_and_n(page):
    text = row(page, "ERM", "Big Lips : Chubby", several=True).inner_text()
    assert "48.0 ± 2.8" in text  # the seeds' 46 and 50
    assert "40.0 to 56.0" in text
    assert "Big Lips=1 Chubby=1 (n = 180)" in text
    assert "+6.0" in text  # alone: 40 and 44
    assert "−4.0 to +16.0" in text


def test_column_heads_sort_both_ways_and_say_so(page):
    assert columns(page)[:2] == ["task", "method"]
    sort_by(page, "worst group %")
    values = worst(page)
    assert values == sorted(values, reverse=True)
    assert (values[0], values[-1]) == (72.5, 25.0)  # JTT's brows; ERM's brows alone
    sorts = page.locator("#table th").evaluate_all("all => all.map(h => h.ariaSort)")
    assert sorted(set(sorts)) == ["descending", "none"]
    sort_by(page, "worst group %")
    assert worst(page) == sorted(values)


def test_a_row_without_a_difference_comes_last_whichever_way_it_is_sorted(page):
    at = columns(page).index("MTL − STL") + 1
    for shown in (["+10.0", "+6.0", "+5.0", "−2.0"], ["−2.0", "+5.0", "+6.0", "+10.0"]):
        sort_by(page, "MTL − STL")
        assert texts(page, at) == shown + ["–"] * 6


def test_filters_leave_the_rows_that_fit_in_table_figures_and_runs(page):
    assert page.inner_text("#count") == "10 of 10 rows"
    page.select_option("#method", "jtt")
    assert page.inner_text("#count") == "2 of 10 rows"
    assert page.locator("#run-list > details").count() == 3
    page.select_option("#method", "")
    page.select_option("#tasks", "one")
    assert page.inner_text("#count") == "4 of 10 rows"
    page.fill("#search", "lips suby")
    assert page.inner_text("#count") == "1 of 10 rows"
    page.fill("#search", "no such word")
    assert "No row fits" in page.inner_text("#table tbody")
    page.click("#reset")
    page.locator("#table tr.line >> nth=9").wait_for()
    assert page.inner_text("#count") == "10 of 10 rows"


def test_rule_and_split_switch_every_number(page):
    one = row(page, "ERM", "Big Lips : Chubby", several=True)
    assert "48.0 ± 2.8" in one.inner_text()
    page.check("input[value=best-avg]", force=True)
    assert "42.0 ± 2.8" in one.inner_text()
    page.check("input[value=val]", force=True)
    assert "44.0 ± 2.8" in one.inner_text()
    assert "accuracies on val" in page.inner_text("#rule")
    # With one task the worst task is the worst group: the row alone stays in sight.
    page.check("input[value=best-worst]", force=True)
    assert "44.0 ± 2.8" in row(page, "ERM", "Big Lips", several=False).inner_text()


def test_filters_live_in_the_address(page_file, open_page):
    page = open_page(page_file)
    page.select_option("#method", "erm")
    page.check("input[value=best-avg]", force=True)
    assert page.url.endswith("#method=erm&rule=best-avg")
    again = open_page(page_file)
    again.goto(page.url)
    again.reload()
    assert again.inner_text("#count") == "4 of 10 rows"
    assert again.is_checked("input[value=best-avg]")


def test_the_rule_and_the_cells_are_explained_above_the_table(page):
    hint = page.locator("#rule")
    assert "mean ± standard deviation over seeds" in hint.inner_text()
    assert hint.bounding_box()["y"] < page.locator("#table").bounding_box()["y"]


def test_families_that_nobody_ran_are_not_listed(page):
    names = page.locator("#family option").all_inner_texts()
    assert names == ["all", "disjoint", "ablate disjoint"]


def test_differences_at_other_settings_are_marked(tmp_path, open_page):
    report = example_report()
    for pair in report["comparisons"]:
        pair |= {"matched": False, "differs": {"optimizer.weight_decay": [0.01, 0.1]}}
    page = open_page(write_report_page(report, tmp_path, FAMILIES))
    line = row(page, "ERM", "Big Lips : Chubby", several=True)
    assert "other settings" in line.inner_text()
    title = line.locator(".under", has_text="other settings").get_attribute("title")
    assert title == "wd 0.01 / 0.1"
    assert "Difference" not in page.inner_text("#charts")


def test_a_constant_accuracy_of_0_has_no_negative_axis(page):
    assert page.evaluate("scale(0, 0, 5).first") == 0
    assert page.evaluate("scale(-2, -2, 5).first") < -2


def test_keys_reach_switches_heads_and_rows(page):
    page.focus("input[value=test]")
    page.keyboard.press("ArrowRight")
    assert "accuracies on val" in page.inner_text("#rule")
    page.focus("#table thead button >> nth=0")
    page.keyboard.press("Enter")
    assert page.locator("#table th").first.get_attribute("aria-sort") == "descending"
    page.focus("#table .open >> nth=0")
    page.keyboard.press("Enter")
    assert page.locator("#table .detail").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#table .detail").count() == 0
    assert page.evaluate("document.activeElement.className") == "open"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_a_row_opens_its_groups_rules_and_runs_with_curves_and_configuration(page):
    row(page, "ERM", "Big Lips : Chubby", several=True).click()
    detail = page.locator("#table .detail")
    groups = detail.locator("svg[aria-label^='Accuracy of the groups']")
    assert "n = 180, worst" in groups.inner_html()
    assert groups.locator(".whisker").count() == 4
    rules = detail.locator("table.plain").inner_text()
    assert all(rule in rules for rule in ("best-avg", "best-group", "best-worst"))
    assert "seed 1: 50.0 in Big Lips=1 Chubby=1 (n = 180)" in detail.inner_text()
    assert "MTL − STL compares with" in detail.inner_text()
    detail.locator("summary", has_text="seed 0").click()
    run = detail.locator("details.run").first
    titles = run.locator("svg.chart").evaluate_all("all => all.map(s => s.ariaLabel)")
    assert titles == [
        "Worst group, validation",
        "Average, validation",
        "Training loss",
        "Task weights",
    ]
    assert "2 by best-group; 3 by best-worst; 4 by best-avg" in run.inner_text()
    run.locator("summary", has_text="configuration").click()
    assert "name: erm" in run.locator("pre").inner_text()
    assert "note: <b>&amp;</b>" in run.locator("pre").inner_text()


def test_a_failed_run_shows_its_state_and_error(page):
    failed = page.locator("#run-list details", has_text="late-seed2")
    assert failed.locator(".state").first.inner_text() == "failed"
    failed.locator("summary").first.click()
    failed.get_by_text("a loss that is not finite at step 120").wait_for()
    assert "14 done, 1 failed" in page.inner_text("#states")


def test_figures_show_each_task_alone_and_together_with_intervals(page):
    figure = page.locator("#charts .card", has_text="Several tasks against one")
    accuracy, difference = figure.locator("svg.chart").all()
    assert accuracy.locator(".mark").count() == 2 * 5  # ERM, SUBY alone; ERM, SUBY, JTT together
    assert accuracy.locator(".mark.hollow").count() == 4
    assert difference.locator(".whisker").count() == 4
    accuracy.locator("g[data-tip]").first.hover()
    tip = page.inner_text("#tip")
    assert tip.startswith("Big Lips : Chubby, alone\nERM")
    assert "worst group 42.0 %  (34.0 to 50.0)" in tip
    count = page.locator("#charts .card", has_text="Number of tasks").locator("svg.chart")
    assert count.count() == 2
    page.check("input[value=average]", force=True)
    accuracy = page.locator("#charts svg.chart").first
    assert accuracy.get_attribute("aria-label").startswith("average accuracy")


def test_what_similar_pairs_are_held_against_is_said(tmp_path, open_page):
    families = {"similar": [PAIR], "disjoint": [PAIR]}
    page = open_page(write_report_page(example_report(), tmp_path, families))
    said = "similar against disjoint (no family is called dissimilar: disjoint stands in)"
    assert said in page.inner_text("#charts")


def test_the_explorer_is_linked(page):
    link = page.locator("nav a", has_text="Spurious correlations")
    assert link.get_attribute("href") == "../eval/index.html"


@pytest.mark.parametrize("width", [400, 1280, 1920])
def test_nothing_sticks_out_of_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.locator("#table .open").first.click()
    page.locator("#table .detail summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_names_are_text_and_run_nothing(tmp_path, open_page):
    report = example_report()
    for run in report["runs"]:
        run["run"] = run["run"].replace("logs/erm", HOSTILE)
    for found in report["rows"]:
        found["runs"] = [name.replace("logs/erm", HOSTILE) for name in found["runs"]]
        found["settings"]["note"] = found["method"] + HOSTILE
        for group in found["groups"]:
            group["name"] += "<script>document.title='owned'</script>"
    page = open_page(write_report_page(report, tmp_path, FAMILIES))
    row(page, "ERM", "Big Lips : Chubby", several=False).click()
    detail = page.locator("#table .detail")
    assert "onerror=document.title='owned'" in detail.inner_text()
    assert "<script>document.title='owned'</script>" in detail.locator(
        "svg"
    ).first.inner_html().replace("&lt;", "<").replace("&gt;", ">")
    assert page.locator("img").count() == 0
    assert page.title() == "Results"


def test_without_rows_the_page_says_so_and_lists_the_runs(tmp_path, open_page):
    report = example_report() | {"rows": [], "comparisons": []}
    page = open_page(write_report_page(report, tmp_path, FAMILIES))
    assert "No finished run has been evaluated yet" in page.inner_text("#table tbody")
    assert page.locator("#run-list > details").count() == 15
    assert page.locator("#charts svg").count() == 0


def test_no_run_at_all_is_a_page_too(tmp_path, open_page):
    page = open_page(write_report_page({"runs": [], "rows": [], "comparisons": []}, tmp_path))
    assert page.inner_text("#states").startswith("0 runs: none")


def test_one_seed_and_a_group_without_images_are_named_and_never_0(tmp_path, open_page):
    report = example_report()
    report["rows"] = [r for r in report["rows"] if r["grouping"] == LIPS and r["method"] == "erm"]
    report["comparisons"] = []
    nothing = {"mean": None, "std": None, "n": 0, "low": None, "high": None, "values": [None]}
    for found in report["rows"]:
        found |= {"seeds": [0], "interval": "test-set variation only", "runs": found["runs"][:1]}
        found |= {"epochs": found["epochs"][:1]}
        found["worst_group"] = nothing | {"groups": [None], "totals": [None]}
        found["groups"][3] |= {"total": 0, "mean": None, "low": None, "high": None}
        found["groups"][3]["values"] = [None]
    page = open_page(write_report_page(report, tmp_path, FAMILIES))
    first = page.locator("#table tr.line").first
    assert "test-set variation only" in first.inner_text()
    assert "no group has images" in first.inner_text()
    first.click()
    assert "no images" in page.locator(".detail svg").first.inner_html()
    assert page.locator(".detail svg").first.locator(".mark").count() == 3
    sort_by(page, "worst group %")


def test_a_row_without_held_out_validation_says_so(tmp_path, open_page):
    report = example_report(str(tmp_path / "logs"))
    for entry in (*report["runs"], *report["rows"]):
        entry["has_validation"] = entry["method"] != "suby"
    page = open_page(write_report_page(report, tmp_path, FAMILIES, None))
    methods = texts(page, columns(page).index("method") + 1)
    cells = page.locator("#table tbody tr.line > td:last-child").all_inner_texts()
    marked = ["no held-out validation" in text for text in cells]
    assert marked == [method == "SUBY" for method in methods] and any(marked) and not all(marked)
