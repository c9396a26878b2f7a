"""
Many rows by one statement, on PostgreSQL: all of them are one parameter, a document.

One statement a row costs both sides more than the row does, and one with a place for each value is
taken apart anew for each number of rows. Promises: rows are written in their order; the text of a
document (JSON) in a column is what `hot.dumped` makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import JSON, Boolean, Column, Float, Integer, Table

# Not the columns' own types: a cast to one of so many characters would cut without a word.
_TYPES: Final = ((JSON, "json"), (Boolean, "boolean"), (Integer, "bigint"), (Float, "float8"))


def insert_of(table: Table, names: Sequence[str], instead: str = "") -> str:
    """Return the statement that adds rows of these columns; *instead*: if one is there."""
    of_given = ", ".join(f'given."{name}"' for name in names)
    into = ", ".join(f'"{name}"' for name in names)
    given = _given({name: table.c[name] for name in names})
    return f"INSERT INTO {table.name} ({into}) SELECT {of_given} FROM {given} {instead}"  # noqa: S608


def update_of(table: Table, names: Sequence[str], keys: Mapping[str, str]) -> str:
    """
    Return the statement that changes these columns; *keys*: column to its name in a row.

    Its second parameter are all values of the first key: whatever the planner believes of a table
    that was just filled, it looks up no other rows.
    """
    new = ", ".join(f'"{name}" = given."{name}"' for name in names)
    same = " AND ".join(f'{table.name}."{name}" = given."{key}"' for name, key in keys.items())
    these = f'{table.name}."{next(iter(keys))}" = ANY(%s)'
    columns = {name: table.c[name] for name in names}
    given = _given({**columns, **{key: table.c[name] for name, key in keys.items()}})
    return f"UPDATE {table.name} SET {new} FROM {given} WHERE {these} AND {same}"  # noqa: S608 - names of ours


def _given(columns: Mapping[str, Column[Any]]) -> str:
    names = ", ".join(f'"{name}" {_type(column)}' for name, column in columns.items())
    return f"json_to_recordset(%s::json) AS given({names})"


def _type(column: Column[Any]) -> str:
    for kind, name in _TYPES:
        if isinstance(column.type, kind):
            return name
    return "text"
