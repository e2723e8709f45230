"""The command line: finds the command, and turns what goes wrong into one line and a status."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from gippo import __version__
from gippo.errors import StoppedError, TrainingFailedError, UserError, is_out_of_memory

COMMANDS = {
    "train": "train a policy; leaves metrics, checkpoints, a curve and a USD rollout",
    "play": "let a trained policy act: print its returns, record the motion as USD",
    "evaluate": "tell how well a trained policy does, over whole episodes",
    "export": "write a trained policy as an ONNX or TorchScript file, which needs no gippo",
    "view": "play a recorded rollout in the browser",
    "plot": "draw the learning curves of several runs in one figure",
    "list": "list environments, methods, experiments, and runs with their best return and state",
    "convert": "turn a robot's MJCF or URDF file into the USD file that env=robot takes",
    "inspect": "tell what a robot's file holds, how stiff it is, and draw it at its start",
    "identify": "find a robot's physical parameters in its recorded motion",
    "reproduce": "run the paper's experiments and set their numbers beside the paper's",
    "diagnose": "tell for how long a window an environment's gradients can be trusted",
    "check-gradients": "compare an environment's gradients with central differences",
    "compile": "build an environment's kernels for a GPU that is not here",
    "completion": "print what completes command lines in bash",
    "bench": "measure environment steps and training epochs per second",
}

HELP = """\
gippo: gradient-informed PPO on differentiable environments in NVIDIA Warp and OpenUSD.

Usage: gippo COMMAND [key=value ...]

Commands:
{commands}

  gippo COMMAND --help    what a command does, its keys and defaults, examples, files
  gippo --version

Any command takes --debug, which shows the traceback of an error.

Exit status: 0 all done; 1 the command found or met a failure; 2 a mistake in what was asked, and
nothing was written; 129, 130 and 143 stopped by a closed terminal (SIGHUP), Ctrl-C or SIGTERM,
with everything saved.

First steps:
  gippo train env=cartpole
  gippo train --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    rest = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in rest
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows only ASCII fails nothing
            stream.reconfigure(errors="backslashreplace")
    # Where home cannot be written it takes a temporary folder, and tells of it in two lines.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    rest = [argument for argument in rest if argument != "--debug"]
    try:
        return _dispatch(rest)
    except (UserError, TrainingFailedError) as error:
        if debug:
            raise
        print(f"gippo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except ValueError as error:
        from warp_envs.checks import ArgumentError  # of commands, which have imported it

        if debug:
            raise
        refused = isinstance(error, ArgumentError)
        text = " ".join(str(error).split()) if refused else _unforeseen(error)
        print(f"gippo: {text}", file=sys.stderr)
        return 2 if refused else 1
    except (KeyboardInterrupt, StoppedError) as stopped:
        if debug:
            raise
        print("gippo: interrupted", file=sys.stderr)
        return stopped.status if isinstance(stopped, StoppedError) else 130
    except BrokenPipeError:
        # The reader of our output, as `head`, has left: nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"gippo: {_unforeseen(error)}", file=sys.stderr)
        return 1


def _unforeseen(error: Exception) -> str:
    """One line on an error that no command has turned into its own."""
    text = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return f"out of memory ({text}); fewer environments or a shorter window need less"
    place = _users_line(error)
    if place:
        if isinstance(error, SyntaxError):
            text = error.msg
        said = f": {text}" if text else ""
        return f"{place}: {type(error).__name__}{said} (--debug shows the traceback)"
    if isinstance(error, OSError):
        return text
    return f"{type(error).__name__}: {text} (a defect of gippo; --debug shows where)"


def _users_line(error: Exception) -> str:
    """FILE, line N of the innermost code that is not gippo's, Python's or installed; else ""."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_users(frame.f_code.co_filename):
            found = f"{frame.f_code.co_filename}, line {line}"
    if isinstance(error, SyntaxError) and error.filename and _is_users(error.filename):
        found = f"{error.filename}, line {error.lineno}"
    return found


def _is_users(file: str) -> bool:
    root = Path(__file__).resolve().parents[1]
    others = [root / package for package in ("gippo", "warp_envs", "kernels")]
    kinds = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")
    others += [Path(sysconfig.get_path(kind)).resolve() for kind in kinds]
    path = Path(file)
    if not path.is_file():  # "<string>", "<frozen importlib._bootstrap>"
        return False
    return not any(path.resolve().is_relative_to(other) for other in others)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS)) + 2
        listed = "\n".join(f"  {name.ljust(width)}{what}" for name, what in COMMANDS.items())
        print(HELP.format(commands=listed))
        return 0
    if arguments[0] == "--version":
        print(f"gippo {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from warp_envs.checks import near_matches

        raise UserError(
            f"{name!r}: no such command; there are {', '.join(COMMANDS)}"
            f"{near_matches(name, COMMANDS)}"
        )
    # env=my_pkg:Class is also looked for in the folder at hand; last, so that it hides nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    command = importlib.import_module(f"gippo.commands.{name.replace('-', '_')}")
    if "-h" in rest or "--help" in rest:
        print(command.help_text())
        overrides = [argument for argument in rest if "=" in argument]
        if name == "train" and overrides:
            print(command.chosen_keys(overrides))
        return 0
    return command.run(rest)
