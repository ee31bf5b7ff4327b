"""The report page in a real browser, from the file system, without network."""

import pytest

from src.report.page import write_report_page
from src.report.plots import plot_report
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
    rows = [row for row in report["rows"] if row["split"] == "test"]
    figures = plot_report(root / "figures", {"rows": rows}, FAMILIES, "best-group")
    return write_report_page(report, root / "out", FAMILIES, figures)


@pytest.fixture
def page(page_file, open_page):
    return open_page(page_file)


def texts(page, column: int) -> list[str]:
    """The first line of a column's cells, from the top."""
    cells = page.locator(f"#table tr.line > td:nth-child({column})").all_inner_texts()
    return [text.split("\n")[0] for text in cells]


def columns(page) -> list[str]:
    return [name.rstrip(" ↑↓") for name in page.locator("#table th button").all_inner_texts()]


def worst(page) -> list[float]:
    at = columns(page).index("worst group %") + 1
    return [float(text.split()[0]) for text in texts(page, at)]


def sort_by(page, name: str):
    page.click(f"#table th button >> text='{name}'")


def row(page, method: str, task: str, several: bool):
    company = "with" if several else "alone"
    return (
        page.locator("#table tr.line", has_text=method)
        .filter(has=page.locator(".open", has_text=task))
        .filter(has=page.locator("td:first-child .under", has_text=company))
    )


def open_row(page, *about, **more):
    row(page, *about, **more).locator(".open").click()


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


def test_filters_leave_the_rows_that_fit_in_table_and_runs(page):
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
    assert "No row fits" in page.inner_text("#table")
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
    assert "accuracies on val" in page.inner_text("#shown")
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


def test_differences_at_other_settings_are_marked(tmp_path, open_page):
    report = example_report()
    for found in filter(None, (line["difference"] for line in report["rows"])):
        found |= {"matched": False, "differs": {"optimizer.weight_decay": [0.01, 0.1]}}
    page = open_page(write_report_page(report, tmp_path, FAMILIES))
    line = row(page, "ERM", "Big Lips : Chubby", several=True)
    assert "other settings" in line.inner_text()
    title = line.locator(".under", has_text="other settings").get_attribute("title")
    assert title == "wd 0.01 / 0.1"


def test_a_constant_accuracy_of_0_has_no_negative_axis(page):
    assert page.evaluate("ticksOf(0, 0, 5)[0]") == 0
    assert page.evaluate("ticksOf(-2, -2, 5)[0]") < -2


def test_keys_reach_switches_heads_and_rows(page):
    page.focus("input[value=test]")
    page.keyboard.press("ArrowRight")
    assert "accuracies on val" in page.inner_text("#shown")
    page.focus("#table th button >> nth=0")
    page.keyboard.press("Enter")
    assert page.locator("#table th").first.get_attribute("aria-sort") == "descending"
    page.focus("#table .open >> nth=0")
    page.keyboard.press("Enter")
    assert page.locator("#table .detail").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#table .detail").count() == 0
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_a_row_opens_its_groups_rules_and_runs_with_curves_and_configuration(page):
    open_row(page, "ERM", "Big Lips : Chubby", several=True)
    detail = page.locator("#table .detail")
    groups, rules = (table.inner_text() for table in detail.locator("table.plain").all())
    assert "Big Lips=1 Chubby=1\t180\t48.0\t" in groups and "46.0, 50.0" in groups
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
    assert "15 runs: 14 done, 1 failed" in page.inner_text("#facts")


def test_figures_are_those_of_the_family(page):
    images = page.locator("#charts img")
    assert images.count() == 3 * 2  # tasks alone, two families; average and worst group
    page.select_option("#family", "disjoint")
    assert page.locator("#charts h3").all_inner_texts() == ["Family: disjoint"]
    assert images.first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 500


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
    open_row(page, "ERM", "Big Lips : Chubby", several=False)
    detail = page.locator("#table .detail")
    assert "onerror=document.title='owned'" in detail.inner_text()
    assert "<script>document.title='owned'</script>" in detail.inner_text()
    assert page.locator("img").count() == 0
    assert page.title() == "Results"


def test_one_seed_and_a_group_without_images_are_named_and_never_0(tmp_path, open_page):
    report = example_report()
    report["rows"] = [r for r in report["rows"] if r["grouping"] == LIPS and r["method"] == "erm"]
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
    first.locator(".open").click()
    assert page.locator(".detail table >> nth=0 >> tr").last.inner_text().startswith("Big Lips=1")
    assert "no images" in page.locator(".detail table >> nth=0").inner_text()
    sort_by(page, "worst group %")
