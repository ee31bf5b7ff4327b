"""Look for known vulnerabilities in the installed packages: make audit.

pip-audit lives in an environment of its own (.venv-audit), so that it audits us and not itself. It
asks a service on the network; where that cannot be reached the audit has failed, not passed.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from src.io import UserError, exit_on_user_error

FOLDER = Path(".venv-audit")
PIP_AUDIT = "pip-audit>=2.7"


def main() -> int:
    """Exit code 0: nothing known, 1: something found; 2 where the service gave no answer."""
    tool = FOLDER / "bin" / "pip-audit"
    if not tool.exists():
        venv.create(FOLDER, with_pip=True)
        run([str(FOLDER / "bin" / "pip"), "install", "--quiet", PIP_AUDIT], "pip-audit")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    listed = FOLDER / "installed.txt"
    # torch's CPU builds carry a local version (+cpu), which the service does not know.
    pins = [line.partition("+")[0] for line in installed.splitlines() if "==" in line]
    listed.write_text("\n".join(pins) + "\n")
    answer = run(
        [str(tool), "--no-deps", "--disable-pip", "-r", str(listed), "-f", "json"], "the service"
    )
    return tell(parse(answer), len(pins))


def run(command: list[str], who: str) -> str:
    """What a command prints; pip-audit ends with 1 where it has found something.

    Raises:
        UserError: it failed, which is no clean bill of health.
    """
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1) or (ended.returncode and not ended.stdout.strip()):
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise UserError(
            f"NOT audited: {who} cannot be reached or failed ({last}); try again online"
        )
    return ended.stdout


def parse(text: str) -> list[dict[str, Any]]:
    """pip-audit's packages, each with `vulns`.

    Raises:
        UserError: no such answer, or a package that was not looked at.
    """
    try:
        packages = json.loads(text)["dependencies"]
        skipped = [package for package in packages if "vulns" not in package]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"NOT audited: an answer that cannot be read ({error!r})") from error
    if not packages:
        raise UserError("NOT audited: no package was looked at")
    if skipped:
        reason = str(skipped[0].get("skip_reason", "no reason is given"))[:200]
        raise UserError(
            f"NOT audited: {len(skipped)} of {len(packages)} packages, {skipped[0]['name']} the "
            f"first: {reason}. Is the vulnerability service within reach?"
        )
    return packages


def tell(packages: list[dict[str, Any]], asked: int) -> int:
    """Print what was found; 1 where there is something."""
    found = [(package, vuln) for package in packages for vuln in package["vulns"]]
    for package, vuln in found:
        fixed = ", ".join(vuln["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {vuln['id']}, fixed in {fixed}")
    print(f"{len(packages)} of {asked} packages audited, {len(found)} known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    with exit_on_user_error():
        sys.exit(main())
