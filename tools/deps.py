"""Write the project files that each stage imports, directly and through others, into its ``deps`` in dvc.yaml."""

from __future__ import annotations

import sys
from pathlib import Path

import ruamel.yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.imports import PACKAGES, closure  # noqa: E402  (needs the path above)


def main() -> None:
    """Rewrite dvc.yaml; data and everything else that is written there stays."""
    yaml = ruamel.yaml.YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"))
    for stage, entry in document["stages"].items():
        data = [dep for dep in entry["deps"] if dep.partition("/")[0] not in PACKAGES]
        entry["deps"] = data + sorted(closure(ROOT / "tasks" / f"{stage}.py"))
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


if __name__ == "__main__":
    main()
