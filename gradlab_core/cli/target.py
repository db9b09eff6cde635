"""A user's own model and batch, given as `mypackage.train:build` on the command line, with clear errors if it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from gradlab_core import backends
from gradlab_core.errors import GradlabError, refuse

FORM = "MODULE:FUNCTION, as mypackage.train:build"
_NEEDED, _OPTIONAL = ("model", "x", "y"), ("loss", "optimizer", "learning_rate")
_MODULES = {("torch.nn.modules", "Module"): "torch", ("flax.nnx", "Module"): "jax"}
_RETURNS = (
    "expected a tuple (model, x, y), or a mapping with model, x, y and, if you like, loss, optimizer and learning_rate"
)
_HANDS_ON = ("__torch_function__",)
_OURS = tuple(str(Path(__file__).parents[2] / name) + os.sep for name in ("gradlab_core", *backends.BACKENDS.values()))


@dataclasses.dataclass(frozen=True)
class Built:
    """What a user's function returned: the framework of the model, the arguments of `examine`, and its own file."""

    framework: str
    positional: tuple[Any, Any, Any]
    keywords: Mapping[str, Any]
    file: str | None


def is_target(text: str) -> bool:
    """Whether the text names a function rather than a file.

    >>> is_target("mypackage.train:build"), is_target("run.jsonl")
    (True, False)
    """
    return ":" in text and not os.path.exists(text)


def build(text: str) -> Built:
    """Import the module, which may be in the current folder, call the function, and check what it returns.

    Raises:
        GradlabError: there is no such module or function, it failed, or it returned something else.
    """
    function = find(text)
    if not callable(function):
        raise GradlabError(f"{text} is {kind_of(function)}; expected a function that returns model, x and y")
    returned, file = called(text, function)
    return _checked(text, returned, file)


def called(text: str, function: Callable[..., Any]) -> tuple[Any, str | None]:
    """What a user's function without arguments returns, and the file in which it is defined."""
    name = text.rpartition(":")[2]
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise GradlabError(f"{text} cannot be called without arguments: {error}; expected def {name}()") from error
    except ValueError:  # a callable without a signature; calling it will show whether it takes no arguments
        pass
    file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", None)
    with running(f"{text} failed", file):
        return function(), file


@contextlib.contextmanager
def running(what: str, file: str | None = None) -> Iterator[None]:
    """Run the code of a user, including that of `file`. What it prints goes to standard error, and an error becomes one
    line that says where it arose.

    An error that arises in gradlab itself keeps its traceback.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except GradlabError:
            raise
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)
            last = frames[-1] if frames else None
            # Code that watches a model passes on its calls, and therefore its errors too.
            if last and last.filename.startswith(_OURS) and last.filename != __file__ and last.name not in _HANDS_ON:
                raise
            if os.environ.get("JAX_PLATFORMS") and "jax" in sys.modules:
                backends.load("jax")  # raises a clear error if JAX itself cannot start
            raise GradlabError(f"{what}: {_blamed(error, frames, file)}") from error


def find(text: str) -> Any:
    """The object of that name in a user's module, which may be in the current folder.

    Raises:
        GradlabError: there is no such module or no such name in it, or importing it failed.
    """
    module_name, _, attribute = text.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise GradlabError(f"{text!r} names no function; expected {FORM}")
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    try:
        with running(f"importing {module_name} failed"):
            member: Any = _imported(module_name)
    except _NoModule as error:
        raise GradlabError(
            f"there is no module {error} in {os.getcwd()} or among the installed packages; expected {FORM}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(member, part):
            functions = [n for n, value in vars(member).items() if inspect.isfunction(value) and not n.startswith("_")]
            there = f"; its functions are {', '.join(functions)}" if functions else ""
            raise GradlabError(f"{module_name} has no {attribute}{there}")
        member = getattr(member, part)
    return member


class _NoModule(GradlabError):
    """The module that was asked for does not exist."""


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # If the module itself imports one that is missing, that is an error of the module.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _NoModule(error.name) from error
        raise


def _blamed(error: BaseException, frames: traceback.StackSummary, file: str | None) -> str:
    """The error in words, with the last line of the user's own code before it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    here = os.getcwd() + os.sep
    local = [f for f in frames if f.filename.startswith(here) and "site-packages" not in f.filename]
    own = [f for f in frames if (f.filename == file or f in local) and not f.filename.startswith(_OURS)]
    where = f" ({own[-1].filename}, line {own[-1].lineno}: {own[-1].line})" if own else ""
    return f"{type(error).__name__}: {error}{where}"


def _checked(text: str, returned: Any, file: str | None) -> Built:
    if isinstance(returned, Mapping):
        problems = [f"it has no {name!r}" for name in _NEEDED if name not in returned]
        unknown = [str(key) for key in returned if key not in (*_NEEDED, *_OPTIONAL)]
        problems += [f"it has {', '.join(unknown)}, which is unknown"] if unknown else []
        if problems:
            _wrong(text, "a mapping", problems)
        model, x, y = (returned[name] for name in _NEEDED)
        keywords = {name: returned[name] for name in _OPTIONAL if name in returned}
    elif isinstance(returned, tuple):
        if len(returned) != 3:
            _wrong(text, f"a tuple of {len(returned)}", [])
        (model, x, y), keywords = returned, {}
    else:
        _wrong(text, kind_of(returned), [])
    framework = framework_of(model)
    problems = []
    if framework is None:
        problems.append(f"its model is {kind_of(model)}; expected a torch.nn.Module or a flax.nnx.Module")
    if not hasattr(x, "shape"):
        problems.append(f"its x is {kind_of(x)}; expected one tensor with the batch along its first axis")
    elif framework == "torch" and not kind_of(x).startswith("torch."):
        problems.append(f"its x is {kind_of(x)}; expected a torch.Tensor, as its model takes it")
    if "loss" not in keywords and not hasattr(y, "shape"):
        problems.append(f"its y is {kind_of(y)}; expected integer labels, or a loss of your own that takes it")
    if not callable(keywords.get("loss", len)):
        problems.append(f"its loss is {kind_of(keywords['loss'])}; expected a function of the output and y")
    refuse(text, problems)
    assert framework is not None
    return Built(framework, (model, x, y), keywords, file)


def kind_of(value: Any) -> str:
    """The type of a value, as it is named in a message."""
    kind = type(value)
    return "None" if value is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _wrong(text: str, what: str, problems: list[str]) -> NoReturn:
    raise GradlabError(f"{text} returned {what}{': ' + '; '.join(problems) if problems else ''}; {_RETURNS}")


def framework_of(model: Any) -> str | None:
    """`torch` or `jax`, judged without any import by the modules that define the classes of the model; None for what is
    neither a torch nor an NNX module."""
    for kind in type(model).__mro__:
        framework = _MODULES.get((str(kind.__module__).rpartition(".")[0], kind.__name__))
        if framework:
            return framework
    return None
