"""How every command is declared and how it ends: click, with options made from records, and one line for each error.

@command("predict", "Make water masks of SAR scenes.", examples="sarwater predict scene.tif -o products")
@click.argument("scenes", nargs=-1, type=Path)
@record_options(Request, {"model and pixels": ("threshold", "unit"), ...})
def predict(scenes: tuple[Path, ...], **request: Any) -> int: ...

main(argv) -> int    = invoke(predict, argv), which raises the errors of `sarwater.errors`
cli() -> int         = run(predict), which prints them in one line and gives their exit code
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import signal
import sys
import textwrap
import threading
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from sarwater.errors import DependencyMissing, SarwaterError, UsageError, expected
from sarwater.models import DEFAULT_MODEL, model_names

if TYPE_CHECKING:
    from sarwater.record import Record

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # no generic before click 8.3

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it; after SIGTERM it is 143, after SIGHUP 129."""
EXIT_CODES = "0 done, 1 failed, 2 wrong usage, 78 settings or machine at fault, 130 interrupted"
OTHER = "others"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Explained(click.Command):
    """Its `--help` has the options in groups, then examples and exit codes."""

    def __init__(self, *arguments: Any, examples: str = "", more: str = "", exit_codes: str = "", **keys: Any) -> None:
        keys.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 110})
        super().__init__(*arguments, **keys)
        self.examples = examples
        self.more = more
        self.exit_codes = exit_codes or EXIT_CODES

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):  # arguments are in the usage line
                groups.setdefault(getattr(parameter, "group", OTHER), []).append(record)
        for name in sorted(groups, key=OTHER.__eq__):
            with formatter.section(name):
                formatter.write_dl(groups[name])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, text in (("examples", self.examples), ("", self.more), ("exit codes", self.exit_codes)):
            if text:
                formatter.write_paragraph()
                if heading:
                    formatter.write(f"{heading}:\n")
                formatter.write(textwrap.indent(textwrap.dedent(text).strip("\n"), "  ") + "\n")


class Command(_Explained):
    """A command of functions that return their exit code."""


class Option(click.Option):
    """An option that belongs to a group of `--help`."""

    def __init__(self, *arguments: Any, group: str = OTHER, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.group = group


class Switch(Option):
    """`--twice`, `--twice true`, `--twice=false`, `--no-twice`: "true" or "false", None where it is not given."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, is_flag=False, flag_value="true", **keys)

    @property
    def _negative(self) -> str:
        return "--no-" + self.opts[0].removeprefix("--")

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        parser.add_option(self, [self._negative], dest=self.name, action="store_const", const="false")

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (f"{self.opts[0]} / {self._negative}", record[1])


class Group(_Explained, click.Group):
    """A command with subcommands; one that is misspelt is answered with what there is."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **{"no_args_is_help": False} | keys)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"no command {args[0]!r}; {expected(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("commands"):
            formatter.write_dl(self.descriptions(ctx))

    def descriptions(self, ctx: click.Context) -> list[tuple[str, str]]:
        """(name, what it does) of each subcommand."""
        return [(name, command.get_short_help_str(100)) for name, command in self.commands.items()]

    def subcommand(self, name: str, help: str, **keys: Any) -> Callable[[Callable[..., int]], click.Command]:
        """Declare one: its examples and exit codes are those of the group."""
        return self.command(name, cls=_Subcommand, help=help, **keys)


class _Subcommand(_Explained):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if isinstance(ctx.parent and ctx.parent.command, _Explained):
            ctx.parent.command.format_epilog(ctx, formatter)  # type: ignore[union-attr]


class LazyGroup(Group):
    """Subcommands that are imported when they are used: name -> (`module:attribute`, what it does in a line).

    Neither `--help` nor completion imports one.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, attribute = self._lazy[cmd_name][0].split(":")
        try:
            found: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name in (None, module) or str(error.name).split(".")[0] == module.split(".")[0]:
                raise
            raise DependencyMissing(
                f"{cmd_name} needs {error.name}, which is not installed; install sarwater with its dependencies"
            ) from error
        return found

    def descriptions(self, ctx: click.Context) -> list[tuple[str, str]]:
        return [(name, text) for name, (_, text) in self._lazy.items()]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=text) for name, (_, text) in self._lazy.items() if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)


class OneOf(_ParamType):
    """One of some names; another one is answered with what there is."""

    name = "name"

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self._names:
            self.fail(f"{value!r} is unknown; {expected(str(value), self._names)}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in self._names if name.startswith(incomplete)]


class ModelName(_ParamType):
    """What MODEL may be: a name or a path, as text; completed by both."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = [name for name in model_names() if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def model_option(group: str) -> Decorator:
    """`--model`, of every command that runs one."""
    return option(
        "--model",
        group=group,
        default=DEFAULT_MODEL,
        metavar="MODEL",
        type=ModelName(),
        help=f"A model that ships ({', '.join(model_names())}), or the path of an .onnx or .engine file. "
        f"[default: {DEFAULT_MODEL}]",
    )


def command(
    name: str, help: str, *, examples: str, more: str = "", exit_codes: str = ""
) -> Callable[[Callable[..., int]], Command]:
    """Declare a command; `examples` and `more` are shown as they are."""
    return click.command(name, cls=Command, help=help, examples=examples, more=more, exit_codes=exit_codes)


def option(*names: str, group: str = OTHER, **keys: Any) -> Decorator:
    """As click.option, in a group of `--help`."""
    return click.option(*names, cls=Option, group=group, **keys)


def record_options(
    record: type[Record],
    groups: Mapping[str, Sequence[str]],
    aliases: Mapping[str, Sequence[str]] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Decorator:
    """An option for each field of `record` that `groups` names: `sieve_px` is `--sieve-px PX`, and what `aliases` has
    for it; `--help` lists its `choices`, and the examples of the field. Only those that are given reach the function;
    the record validates them (`given`)."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for group, names in reversed(list(groups.items())):
            for name in reversed(names):
                known = (choices or {}).get(name, ())
                function = _field_option(record, name, group, (aliases or {}).get(name, ()), known)(function)
        return function

    return decorate


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that somebody gave: the others have None."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def _field_option(
    record: type[Record], name: str, group: str, aliases: Sequence[str], choices: Sequence[str]
) -> Decorator:
    field = record.model_fields[name]
    flag = "--" + name.replace("_", "-")
    text = " ".join((field.description or "").split())
    if choices:
        text += (
            f" One or more of: {', '.join(choices)}."
            if _is_list(field.annotation)
            else f" One of: {', '.join(choices)}."
        )
    if field.examples:
        text += f" As in {flag} {' or '.join(map(shlex.quote, field.examples))}."
    shown = _shown(field.default)
    if shown and not field.is_required():
        text += f" [default: {shown}]"
    if field.annotation is bool:
        return click.option(flag, *aliases, name, cls=Switch, group=group, default=None, help=text)
    return option(flag, *aliases, name, group=group, default=None, metavar=_metavar(name, field.annotation), help=text)


def _metavar(name: str, annotation: Any) -> str:
    """The unit where the name ends in one, else the choices of a Literal, else what kind of value it is."""
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    units = {"px": "PX", "m2": "M2", "m": "M", "s": "SECONDS", "bytes": "BYTES", "db": "DB", "deg": "DEG"}
    if unit := units.get(name.rsplit("_", 1)[-1]):
        return unit
    if _is_list(annotation):
        return "LIST"
    if annotation is str:
        return name.rsplit("_", 1)[-1].upper()
    kinds = dict.fromkeys((int, float), "NUMBER") | {Path: "PATH"}
    found = {kinds[kind] for kind in (annotation, *typing.get_args(annotation)) if kind in kinds}
    return "|".join(sorted(found)) or "VALUE"


def _is_list(annotation: Any) -> bool:
    return any(typing.get_origin(kind) is tuple for kind in (annotation, *typing.get_args(annotation)))


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None or not isinstance(default, int | float | str) else f"{default}"


def invoke(command: click.Command, argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Run the command; raises the errors of `sarwater.errors`, of which UsageError is for what click refuses."""
    try:
        # Not command.main: it takes an EOFError for Ctrl-C.
        arguments = list(sys.argv[1:] if argv is None else argv)
        with command.make_context(program or f"sarwater {command.name}", arguments) as context:
            result = command.invoke(context)
    except click.UsageError as error:
        raise UsageError(f"{error.format_message()} (`{_help_command(error)}` explains)") from None
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.exceptions.Exit as error:
        return error.exit_code
    return result if isinstance(result, int) else 0


def run(command: click.Command, argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """`invoke`, with each error of `sarwater.errors` in one line on stderr and its exit code.

    Anything else is a bug and keeps its traceback.
    """
    return run_command(lambda given: invoke(command, given, program), argv, program or f"sarwater {command.name}")


def run_command(
    main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None, name: str | None = None
) -> int:
    """As `run`, for a command that is a function of its arguments; `name` is what its errors begin with."""
    name = name or os.path.basename(sys.argv[0]).removesuffix(".py")
    _open_standard_streams()
    try:
        with _ended_by_signals():
            return main(argv)
    except SarwaterError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except _Ended as end:
        with contextlib.suppress(OSError):  # the terminal went away
            print(f"{name}: ended by {end.signal.name}", file=sys.stderr, flush=True)
        return 128 + end.signal
    except BrokenPipeError:
        # The reader of our output (`| head`) went away; point stdout elsewhere so that the interpreter's
        # flush at exit does not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Ended(BaseException):
    """By a signal: whatever is cleaned up after an error is cleaned up then, too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `_Ended`, unless somebody ignores or handles them already (`nohup`)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, _frame: object) -> None:
        if os.getpid() != process:  # a fork that has no clean-up of its own
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for other in taken:
            signal.signal(other, signal.SIG_IGN)  # the second one does not cut the clean-up short
        raise _Ended(number)

    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _open_standard_streams() -> None:
    """Those that are closed (`2>&-`) lead nowhere: else the next file that is opened would get what is printed."""
    for descriptor, stream in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
            os.set_inheritable(nowhere, True)
        if getattr(sys, stream) is None:
            setattr(sys, stream, os.fdopen(descriptor, "r" if descriptor == 0 else "w", closefd=False))


def _help_command(error: click.UsageError) -> str:
    return f"{error.ctx.command_path if error.ctx else 'sarwater'} --help"
