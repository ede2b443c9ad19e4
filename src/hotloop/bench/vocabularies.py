"""The two vocabularies that a stateless baseline is measured with.

What it costs to render and tokenize a history anew hangs on the tokenizer. *tokenizers* is the library of that name, as servers
of open models encode: what hotloop saves is judged with it. *fast* is hotloop's own encoder, with which it serves.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from hotloop.bench.answers import BenchError
from hotloop.bench.render import load_tokenizer
from hotloop.seams.tokenizer import Tokenizer
from hotloop.tiny import model_path
from hotloop.tokenizers.gguf_as_json import write_as_json
from hotloop.tokenizers.gguf_vocabulary import NoVocabulary

LIBRARY, FAST = "tokenizers", "fast"


def add_options(parser: ArgumentParser) -> None:
    """Which vocabularies they are."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE.gguf",
        help="file whose vocabulary and chat template the server uses (weights are not needed); default: the demonstration "
        "model's",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE.json",
        help="tokenizer.json for the arms that the tokenizers library encodes; default: the model's vocabulary",
    )
    parser.add_argument("--format", metavar="NAME", help="family that writes conversations with that tokenizer.json")


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """What tokens are: those of a model file (None: the demonstration model's), or besides of a tokenizer.json."""

    model: Path | None = None
    tokenizer: Path | None = None
    format: str | None = None


DEMONSTRATION = Vocabularies()


def vocabularies_of(given: Namespace) -> Vocabularies:
    """Those asked for."""
    return Vocabularies(given.model, given.tokenizer, given.format)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One of them, loaded."""

    name: str  # whose it is, and what encodes it
    tokenizer: Tokenizer
    flags: tuple[str, ...]  # of `hotloop serve`


def load_both(given: Vocabularies, folder: Path) -> dict[str, Vocabulary]:
    """Those of `LIBRARY` and `FAST`; what has to be written for a server lies in `folder`. Raises BenchError."""
    return {LIBRARY: _library(given, folder), FAST: _fast(given)}


def _fast(given: Vocabularies) -> Vocabulary:
    tokenizer, _ = load_tokenizer(given.model)
    return Vocabulary(f"{_model_name(given)}, hotloop's own encoder", tokenizer, _model_flags(given))


def _library(given: Vocabularies, folder: Path) -> Vocabulary:
    library = f"tokenizers {version('tokenizers')}"
    if given.tokenizer is not None:
        if given.format is None:
            raise BenchError("--tokenizer needs --format NAME: a vocabulary says nothing of conversations")
        tokenizer, _ = load_tokenizer(given.tokenizer)
        flags = ("--tokenizer", str(given.tokenizer), "--format", given.format)
        return Vocabulary(f"{given.tokenizer.stem}, {given.format}, {library}", tokenizer, flags)
    if given.format is not None:
        raise BenchError("--format names the family of a --tokenizer FILE.json: none is given")
    path, model = folder / "tokenizer.json", given.model or model_path()
    try:
        write_as_json(model, path)
    except NoVocabulary as error:
        raise BenchError(f"{model}: its vocabulary cannot be written as a tokenizer.json: {error}") from error
    tokenizer, _ = load_tokenizer(path)
    return Vocabulary(f"{_model_name(given)}, {library}", tokenizer, (*_model_flags(given), "--tokenizer", str(path)))


def _model_name(given: Vocabularies) -> str:
    return given.model.name if given.model else "demonstration model"


def _model_flags(given: Vocabularies) -> tuple[str, ...]:
    return "--model", str(given.model or model_path())
