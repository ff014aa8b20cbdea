"""Tables of settings, and the files that hold them: TOML, or the JSON that a run saves.

A file is complete: nothing is inherited, unknown keys are errors, and paths are relative to the file.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from wildbox.errors import ConfigError
from wildbox.formats.files import whole_file


class Settings(BaseModel):
    """Base of all tables: frozen, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Table = TypeVar("Table", bound=Settings)


def read_config(path: str | Path, table: type[Table]) -> Table:
    """A settings file (TOML, or the JSON that a run saves), validated.

    Raises:
        ConfigError: file, key, what was expected; a misspelt key is answered with the nearest one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse_config(raw, table, source=path)


def parse_config(raw: object, table: type[Table], *, source: str | Path = "settings") -> Table:
    """A nested dict as a validated table; relative paths are taken from the folder of `source`."""
    try:
        config = table.model_validate(raw)
    except ValidationError as error:
        found = error.errors()
        inner = {e["loc"][:n] for e in found for n in range(len(e["loc"]))}  # it fails again where it stands
        problems = "; ".join(_explain(dict(e), table) for e in found if e["loc"] not in inner)
        raise ConfigError(f"{source}: {problems}") from error
    folder = Path(source).parent if isinstance(source, Path) else Path()
    return table.model_validate(_rooted(config.model_dump(), folder))


def write_config(config: Settings, path: Path) -> None:
    """The resolved settings as JSON, paths absolute; `read_config` reads it back."""
    with whole_file(path) as temporary:
        temporary.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _rooted(value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return {key: _rooted(item, folder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rooted(item, folder) for item in value]
    return (folder / value).resolve() if isinstance(value, Path) else value


def _explain(error: dict[str, object], table: type[Settings]) -> str:
    place = error["loc"]
    if not isinstance(place, tuple) or not place:
        return _own_words(error)
    key = ".".join(str(part) for part in place)
    if error["type"] == "value_error":  # of a whole table: it names its keys
        return f"{key}: {_own_words(error)}"
    if error["type"] != "extra_forbidden":
        return (
            f"{key} = {error['input']!r}: {error['msg']}"
            if error["type"] != "missing"
            else f"{key} is missing"
        )
    near = _nearest(key, _all_keys(table))
    return f"unknown key {key}" + (f" (did you mean {near}?)" if near else "")


def _own_words(error: Mapping[str, object]) -> str:
    """A validator's message without what pydantic puts before it."""
    return str(error["msg"]).removeprefix("Value error, ")


def _nearest(key: str, known: list[str]) -> str | None:
    """The known key of most similar name: bare where it stands in the same table, else with its tables."""
    place, _, name = key.rpartition(".")
    names = sorted({one.rpartition(".")[2] for one in known})
    for near in difflib.get_close_matches(name, names, n=1):
        here = f"{place}.{near}" if place else near
        return near if here in known else next(one for one in known if one.rpartition(".")[2] == near)
    return None


def _all_keys(table: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, info in table.model_fields.items():
        keys.append(prefix + name)
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys += _all_keys(inner, f"{prefix}{name}.")
    return keys
