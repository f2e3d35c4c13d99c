"""The settings of every command: flags over STREAMGAUGE_* variables over streamgauge.toml over
the stack that `streamgauge up` left running here.

Upstream: `commands/`, which ask for settings by name with `configured`. An unknown or wrong key
is an error that names it and, where there is one, the key that was meant.
"""

import difflib
import functools
import json
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import click
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.unknown import UnknownTypes

PREFIX = "STREAMGAUGE_"
FILE = Path("streamgauge.toml")
RUNNING = "stack.json"
# Read elsewhere: by `load`, and by the tests' fault injection.
_NOT_SETTINGS = {"CONFIG", "FAULT"}

F = TypeVar("F", bound=Callable[..., Any])


class Settings(BaseSettings):
    """What the commands can be told; see `streamgauge COMMAND --help` for the flags."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True
    )

    kafka: str | None = Field(None, description="Kafka's address, HOST:PORT[,HOST:PORT].")
    registry: str | None = Field(None, description="Schema registry: http(s)://… or file:FOLDER.")
    postgres: str | None = Field(None, description="Postgres, postgresql://USER@HOST:PORT/DB.")
    redis: str | None = Field(None, description="Redis, redis://HOST:PORT/0.")
    archive: Path | None = Field(None, description="Folder of the Parquet archive of events.")
    namespace: str = Field("", description="Prefix of topics, groups, tables' schema and keys.")
    dir: Path = Field(Path(".streamgauge"), description="Where stacks keep their state and logs.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes.")
    definitions: Path | None = Field(None, description="YAML file of metric definitions.")
    alerts: Path | None = Field(None, description="YAML file of alert levels (default: built in).")
    segments: Path | None = Field(
        None, description="YAML file of the segment rules to begin with (default: built in)."
    )
    event_modules: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Python modules with event types of your own, comma-separated."
    )
    unknown_events: str = Field(
        "dead-letter",
        description="Events of no known type: custom, dead-letter, reject; or by name, x_*=custom.",
    )
    lateness_ms: int = Field(
        3_600_000, ge=0, description="How far behind the watermark an event may be, in ms."
    )
    consent_default: Literal["granted", "denied"] = Field(
        "granted", description="What an event without consent_analytics counts as."
    )
    commit_interval: float = Field(
        0.1, gt=0, le=10, description="Seconds between a worker's commits; up to 1 under load."
    )
    transactional: bool = Field(
        True, description="Commit in Kafka transactions (off on the embedded broker)."
    )
    checkpoints: str | None = Field(
        None, description="Folder of checkpoints of state, or `off` (in the state folder)."
    )
    checkpoint_interval: float = Field(
        30.0, gt=0, le=3600, description="Seconds between checkpoints of state."
    )

    refresh_minutes: float = Field(
        60.0, ge=0, description="Minutes between refreshes of the materialised views; 0: never."
    )

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        if not re.fullmatch(r"([a-z][a-z0-9-]{0,47})?", value):
            raise ValueError("a letter, then up to 47 of a-z, 0-9 and -")
        return value

    @field_validator("unknown_events")
    @classmethod
    def _unknown_events(cls, value: str) -> str:
        try:
            UnknownTypes.parse(value)
        except SchemaError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("event_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, file, _RunningStack(settings_cls)

    def need(self, name: str) -> str:
        """The address `name`, or a usage error that says how to give one."""
        value = getattr(self, name)
        if value is None:
            raise click.UsageError(
                f"no address for {name}: give --{name}, set {PREFIX}{name.upper()}, put it into "
                f"{FILE}, or start a stack here with `streamgauge up`"
            )
        return str(value)

    @property
    def unknown_types(self) -> UnknownTypes:
        """What becomes of events of no known type."""
        return UnknownTypes.parse(self.unknown_events)

    @property
    def checkpoint_folder(self) -> Path | None:
        """Where checkpoints are; None when they are off."""
        if self.checkpoints == "off":
            return None
        return Path(self.checkpoints) if self.checkpoints else self.dir / "checkpoints"

    @property
    def status_folder(self) -> Path:
        """Where workers on this machine say how they are."""
        return self.dir / "status"

    def environment(self) -> dict[str, str]:
        """The settings as variables, for a child process."""
        return {
            PREFIX + key.upper(): ",".join(value) if isinstance(value, tuple) else str(value)
            for key, value in self
            if value is not None
        }


class _RunningStack(PydanticBaseSettingsSource):
    """Addresses of the stack that runs in the state folder, unless told not to look."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        if not self.config.get("use_running_stack"):
            return {}
        running = running_stack(
            Path(self.current_state.get("dir", Settings.model_fields["dir"].default))
        )
        return {key: it for key, it in running.items() if key in known() and key != "dir"}


def running_stack(folder: Path) -> dict[str, Any]:
    """What `streamgauge up` wrote about itself in `folder`, empty when it does not run."""
    try:
        told = json.loads((folder / RUNNING).read_text())
        os.kill(told.pop("pid"), 0)
    except (OSError, ValueError, KeyError):
        return {}
    return dict(told)


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    use_running_stack: bool = True,
) -> Settings:
    """The settings; `flags` that are None were not given."""
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    file = config or Path(os.environ.get(f"{PREFIX}CONFIG", FILE))
    if not file.exists() and file != FILE:
        raise click.UsageError(f"no settings file {file}")
    for variable in os.environ:
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in _NOT_SETTINGS and name.lower() not in known():
            raise click.UsageError(f"unknown setting {variable}{_meant(name.lower(), PREFIX)}")

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=file, use_running_stack=use_running_stack)  # type: ignore[typeddict-unknown-key]

    try:
        return Configured(**given)
    except ValidationError as error:
        wrong = [_explain(one, given, file) for one in error.errors()]
        raise click.UsageError("\n".join(wrong)) from None
    except ValueError as error:  # TOML that cannot be read
        raise click.UsageError(f"{file}: {error}") from None


def known() -> list[str]:
    """The names of all settings."""
    return list(Settings.model_fields)


def schema_name(namespace: str) -> str:
    """The namespace's schema in Postgres."""
    return namespace.replace("-", "_") or "streamgauge"


def configured(*names: str, use_running_stack: bool = True) -> Callable[[F], F]:
    """Adds a flag for each of the settings `names`; the command gets `settings`."""

    def decorate(command: Callable[..., Any]) -> Any:
        @functools.wraps(command)
        def call(*arguments: Any, **flags: Any) -> Any:
            config = click.get_current_context().find_root().obj
            given = {name: flags.pop(name) for name in names}
            settings = load(given, config=config, use_running_stack=use_running_stack)
            return command(*arguments, settings=settings, **flags)

        flagged: Any = call
        for name in reversed(names):
            field = Settings.model_fields[name]
            flag = "--" + name.replace("_", "-")
            form = f"{flag}/--no-{flag[2:]}" if field.annotation is bool else flag
            option = click.option(
                form, name, default=None, help=field.description, metavar=_metavar(name)
            )
            flagged = option(flagged)
        return flagged

    return decorate


def _metavar(name: str) -> str | None:
    annotation = Settings.model_fields[name].annotation
    if annotation is bool:
        return None
    if typing.get_origin(annotation) is Literal:
        return "|".join(typing.get_args(annotation))
    if name.endswith("_minutes"):
        return "MINUTES"
    return {int: "N", float: "SECONDS"}.get(typing.cast(type, annotation), "TEXT")


def _explain(error: Any, given: Mapping[str, Any], file: Path) -> str:
    key = ".".join(str(part) for part in error["loc"])
    name = key.split(".")[0]
    if error["type"] == "extra_forbidden":
        return f"unknown setting {key} in {file}{_meant(key)}"
    variable = PREFIX + name.upper()
    if name in given:
        where = "--" + name.replace("_", "-")
    elif variable in os.environ:
        where = variable
    else:
        where = f"{name} in {file}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}, not {error['input']!r}"


def _meant(name: str, prefix: str = "") -> str:
    if close := difflib.get_close_matches(name, known(), 1):
        found = prefix + close[0].upper() if prefix else close[0]
        return f": did you mean {found}?"
    return f": there are {', '.join(known())}"
