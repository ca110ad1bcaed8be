"""Runs a group of a bench and reads what criterion measured."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def ours(group, names, bench="forests"):
    """Mean seconds of each benchmark of the group."""
    subprocess.run(["cargo", "bench", "--bench", bench, "--", f"^{group}/"], cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = {}
    for name in names:
        path = target / "criterion" / group / name / "new" / "estimates.json"
        found[name] = json.loads(path.read_text())["mean"]["point_estimate"] * 1e-9
    return found
