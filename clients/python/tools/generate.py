"""Makes src/cognate_client/v1 from the contract, with the versions in requirements.txt.

    python tools/generate.py            # writes the files
    python tools/generate.py --check    # only says which differ, with exit code 1

The files are imported as `cognate_client.v1`, because the name `cognate` belongs to another package. google.rpc comes
from googleapis-common-protos.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT.parent.parent / "proto"
PACKAGE = "cognate_client/v1"


def generate(out: Path) -> None:
    """Runs protoc with the plugins of this environment."""
    kinds = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    # -I VIRTUAL=PATH: protoc finds the file under the name that the package has.
    paths = [f"-I{PACKAGE}={PROTO / 'cognate/v1'}", f"-I{PROTO}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *paths, *kinds, f"{PACKAGE}/cognate.proto"]
    plugins = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(command, check=True, env={**os.environ, **plugins}, stderr=subprocess.PIPE)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        made = {path.name: path.read_bytes() for path in (Path(scratch) / PACKAGE).iterdir()}
    folder = ROOT / "src" / PACKAGE
    different = [name for name in made if not (folder / name).exists() or (folder / name).read_bytes() != made[name]]
    if sys.argv[1:] == ["--check"]:
        if different:
            print(f"not what proto/ says: {', '.join(sorted(different))}; run python tools/generate.py")
        return bool(different)
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
