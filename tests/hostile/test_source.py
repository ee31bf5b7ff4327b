"""What our code never does, looked up in its syntax trees."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(
    [*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
)
FORBIDDEN = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}
FORBIDDEN |= {
    f"{m}.{f}" for m in ("pickle", "cloudpickle", "dill", "joblib") for f in ("load", "loads")
}
FORBIDDEN |= {
    "pd.read_pickle",
    "pandas.read_pickle",
    "shelve.open",
    "marshal.loads",
    "torch.jit.load",
}
FORBIDDEN |= {"subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"}
MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def faults(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [f"{node.lineno}: import {n}" for n in names if n.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if (
            name in FORBIDDEN
            or (name == "torch.load" and options.get("weights_only") != "True")
            or (name == "np.load" and options.get("allow_pickle") != "False")
            or options.get("shell", "False") != "False"
            or name.endswith(("extractall", "unpack_archive"))
            or (name == "Image.open" and "formats" not in options)
        ):
            found.append(f"{node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_the_search_finds_what_it_is_for():
    bad = ["import pickle", "from pickle import loads", "eval(x)", "np.load(p)", "yaml.load(t)"]
    bad += ["torch.load(p, weights_only=False)", "subprocess.run(c, shell=True)", "Image.open(p)"]
    assert [len(faults(ast.parse(line))) for line in bad] == [1] * len(bad)
    assert not faults(ast.parse("torch.load(p, weights_only=True); model.eval(); yaml.scan(t)"))


def test_no_pickle_no_shell_no_code_from_data_anywhere():
    assert len(FILES) > 70
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in FILES
        for fault in faults(ast.parse(path.read_text()))
    ]
    assert found == []


def test_no_script_of_a_page_makes_markup_or_code_from_text():
    """Whatever a page shows of names is set as text; tests/pages/test_pages.py has the policy."""
    scripts = sorted((ROOT / "src" / "pages").glob("*.js"))
    assert {"explorer.js", "report.js"} <= {path.name for path in scripts}
    words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc")
    words += ("new Function", "setTimeout('", 'setTimeout("', "javascript:")
    found = [(path.name, word) for path in scripts for word in words if word in path.read_text()]
    assert found == []
