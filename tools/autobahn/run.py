"""Runs the Autobahn test suite against the raw WebSocket path: `run.py FOLDER [CASE …]`; exit 1 if a case fails.

FOLDER is where `install.sh` put the suite. Without cases: 1 to 7, 9 and 10, and 12 and 13 (deflate), which take most of the
time: minutes where the client has wsaccel, an hour where it has not.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*")
# NON-STRICT: bad UTF-8 is found at the end of a message, not at the first wrong byte.
PASSED = frozenset({"OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"})


def group_of(case: str) -> str:
    """`12.3` of `12.3.4`; of shorter groups the first number alone."""
    major, minor, *_ = case.split(".")
    return f"{major}.{minor}" if int(major) in (12, 13) else major


def main(folder: Path, cases: list[str]) -> int:
    server = subprocess.Popen([sys.executable, "-m", "tests.support.raw_echo"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        spec = {
            "outdir": str(folder / "reports"),
            "servers": [{"agent": "hotloop", "url": f"ws://127.0.0.1:{port}"}],
            "cases": cases or list(CASES),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (folder / "spec.json").write_text(json.dumps(spec))
        with (folder / "log.txt").open("w") as log:
            subprocess.run(
                [
                    folder / "python2",
                    "-m",
                    "autobahntestsuite.wstest",
                    "-m",
                    "fuzzingclient",
                    "-s",
                    folder / "spec.json",
                ],
                check=True,
                stdout=log,
                stderr=log,
            )
    finally:
        server.terminate()
        server.wait()
    results = json.loads((folder / "reports" / "index.json").read_text())["hotloop"]
    verdicts = {case: (entry["behavior"], entry["behaviorClose"]) for case, entry in results.items()}
    for group in sorted({group_of(case) for case in results}, key=lambda name: [int(part) for part in name.split(".")]):
        entries = [entry for case, entry in results.items() if group_of(case) == group]
        seconds = sum(entry["duration"] for entry in entries) / 1000
        behaviours = Counter(entry["behavior"] for entry in entries)
        print(f"{group:>5} {len(entries):>4} cases {seconds:>7.1f} s ", dict(behaviours))
    print(f"{len(verdicts)} cases:", dict(Counter(behaviour for behaviour, _ in verdicts.values())))
    failed = {case: verdict for case, verdict in verdicts.items() if not PASSED.issuperset(verdict)}
    for case, verdict in failed.items():
        print(f"case {case}: {verdict[0]}, its close {verdict[1]}")
    return 1 if failed or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
