"""`pcgen`: hands each verb to its file, and turns errors that are meant to be read into one line."""

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Never

from pcgen.cli.quiet import readable
from pcgen.errors import ConfigurationError, PcgenError

TRAINER_VERBS = {
    "fit": "train a model: pcgen fit --config configs/quickstart.yaml, or --model VAE --data Shapes",
    "validate": "one pass over the validation split",
    "test": "one pass over the test split",
    "predict": "one pass over the test split, what the model makes of it goes into predictions.h5 or .csv",
}
# verb -> (module of pcgen.cli, what it does); each module has add_arguments(parser) and run(arguments) -> exit status
VERBS = {
    "sample": ("sample", "draw new data from a checkpoint"),
    "film": ("film", "samples on their way from noise to data, as a grid and a film"),
    "reconstruct": ("reconstruct", "encode and decode the data of a file or data set"),
    "interpolate": ("interpolate", "walk between two data through the latent space"),
    "traverse": ("traverse", "move one coordinate of a code after the other"),
    "arithmetic": ("arithmetic", "add the difference between two kinds of data to a code"),
    "decompose": ("decompose", "take data apart: appearance, deformation, albedo and shading, correspondence"),
    "align": ("align", "bring images to their mean deformation: means and variances before and after"),
    "swap": ("swap", "the shape of some data with the appearance of others"),
    "transfer": ("transfer", "landmarks of images and parts of clouds, known of a few, carried to all by the template"),
    "restore": ("restore", "damage data and let the model undo it: the error before and after"),
    "latents": ("latents", "what the codes of one or more checkpoints say, side by side"),
    "probe": ("probe", "linear classification on the features of one or more checkpoints, whole and damaged data"),
    "recover": ("recover", "warp, albedo and shading that models recover, against the true ones"),
    "energies": ("energies", "energies of data, samples and foreign classes: what a model thinks odd"),
    "evaluate": ("evaluate", "score samples against a reference, beside an oracle"),
    "compare": ("compare", "put result files of evaluate side by side"),
    "cache": ("cache", "what has been kept of earlier evaluations, and its removal"),
    "export": ("export", "a model as .safetensors, or a classifier as a feature extractor"),
    "sweep": ("sweep", "trainings over a grid of parameters or random ones, from a W&B sweep file, without a server"),
    "data": ("data", "prepare: meshes or clouds to HDF5; info: what a file holds"),
    "list": ("zoo", "models, datamodules, callbacks, networks, losses and configs that there are"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Words of the command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 for success, 1 where part of the work failed, 2 for an error of the input.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with readable():
            if words and words[0] in TRAINER_VERBS:
                from pcgen.cli.train import train

                return train(words)
            return _run_verb(words)
    except PcgenError as error:
        sys.stderr.write(f"pcgen: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("pcgen: interrupted\n")
        return 130
    except BrokenPipeError:  # the reader of our output (head, less) went away
        sys.stderr.close()
        return 0


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, like every other error; its sub-parsers do too."""

    def error(self, message: str) -> Never:
        """Raise the error instead of printing the usage."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        text = f"there is no option {unknown[1]}: did you mean {near[0]}?" if unknown and near else _sentence(message)
        raise ConfigurationError(f"{text} ({self.prog} --help tells what there is)")


def _sentence(message: str) -> str:
    """Name the word that comes nearest to one that is not a choice."""
    found = re.match(r"argument (?P<what>.*): invalid choice: '(?P<got>.*)' \(choose from (?P<words>.*)\)", message)
    if found is None:
        return message
    words = re.findall(r"[\w-]+", found["words"])
    near = difflib.get_close_matches(found["got"], words, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(words)}"
    return f"{found['what']}: there is no {found['got']!r}: {remedy}"


def _run_verb(words: list[str]) -> int:
    parser = _parser()
    if not words:
        parser.print_help()
        return 2
    # Only the verb that was asked for is imported, so that --help answers at once.
    chosen = next((w for w in words if not w.startswith("-")), None)
    if chosen in VERBS:
        module = importlib.import_module(f"pcgen.cli.{VERBS[chosen][0]}")
        verb = Parser(
            prog=f"pcgen {chosen}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(verb)
        arguments = verb.parse_args(words[words.index(chosen) + 1 :])
        status: int = module.run(arguments)
        return status
    parser.parse_args(words)
    return 0


def _parser() -> argparse.ArgumentParser:
    rows = {**TRAINER_VERBS, **{name: text for name, (_, text) in VERBS.items()}}
    verbs = "\n".join(f"  {name:12s} {text}" for name, text in rows.items())
    parser = Parser(
        prog="pcgen",
        description="Generative models of 3D point clouds and small images: train, sample, evaluate.",
        epilog=f"verbs:\n{verbs}\n\npcgen VERB --help tells the rest.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.add_argument("verb", metavar="VERB", choices=sorted(rows), help="what to do, see below")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from pcgen import __version__

        sys.stdout.write(f"pcgen {__version__}\n")
        parser.exit()
