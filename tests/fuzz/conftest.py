"""The number of cases tried is part of the log."""

from tests.fuzz.cases import COUNTS


def pytest_terminal_summary(terminalreporter):
    if COUNTS:
        each = ", ".join(f"{subject} {count:,}" for subject, count in sorted(COUNTS.items()))
        terminalreporter.write_line(f"fuzzing: {sum(COUNTS.values()):,} cases tried: {each}")
