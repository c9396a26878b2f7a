"""Models in SQL. The promises are those of `store.base.ModelStore`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Select, insert, select

from physicsrunner.store import schema
from physicsrunner.store.base import ModelRow
from physicsrunner.store.rows import Actor
from physicsrunner.store.sql_events import SqlEvents, Transaction
from physicsrunner.wire.live import Event

_MODELS: Final = schema.models.c
_VERSIONS: Final = schema.model_versions.c


class SqlModels(SqlEvents):
    """The tables of models."""

    def add_model(
        self,
        row: ModelRow,
        new_id: str,
        told: Callable[[ModelRow], Event] | None = None,
        *,
        by: Actor | None = None,
    ) -> ModelRow:
        """Keep a version of the model of that name; return it with the model's id."""

        def work(transaction: Transaction) -> ModelRow:
            connection = transaction.connection
            project = row.project_id or ""
            named = select(_MODELS.id).where(
                _MODELS.project_id == project, _MODELS.name == row.name
            )
            model_id = connection.execute(named).scalar()
            if model_id is None:
                model_id = new_id
                values = {"id": new_id, "project_id": project, "name": row.name}
                connection.execute(insert(schema.models), {**values, "created_at": row.created})
            present = (
                connection.execute(
                    _query().where(_VERSIONS.model_id == model_id, _VERSIONS.version == row.version)
                )
                .mappings()
                .first()
            )
            if present is not None:
                return _row(present)
            same = connection.execute(
                select(_VERSIONS.size, _VERSIONS.sha256).where(_VERSIONS.version == row.version)
            ).first()
            size, sha256 = (row.size, row.sha256) if same is None else (same[0], same[1])
            connection.execute(
                insert(schema.model_versions),
                {
                    "model_id": model_id,
                    "version": row.version,
                    "size": size,
                    "sha256": sha256,
                    "created_at": row.created,
                    "created_by": row.created_by,
                },
            )
            kept = ModelRow(**{**vars(row), "id": model_id, "size": size, "sha256": sha256})
            if told is not None:
                transaction.write_events([told(kept)])
            return kept

        return self._write(work, by)

    def model(self, model_id: str, version: str | None = None) -> ModelRow | None:
        """Return that version, or the newest; None if there is none."""
        query = _query().where(_VERSIONS.model_id == model_id)
        if version is not None:
            query = query.where(_VERSIONS.version == version)
        query = query.order_by(_VERSIONS.created_at.desc(), _VERSIONS.version).limit(1)
        with self._db.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _row(row)

    def models(self) -> list[ModelRow]:
        """Return the newest version of every model, the latest first."""
        query = _query().order_by(_VERSIONS.created_at.desc(), _VERSIONS.version)
        newest: dict[str, ModelRow] = {}
        with self._db.read() as connection:
            for row in connection.execute(query).mappings():
                newest.setdefault(row.id, _row(row))
        return list(newest.values())


def _query() -> Select[Any]:
    return select(
        _MODELS.id,
        _MODELS.name,
        _VERSIONS.version,
        _VERSIONS.size,
        _VERSIONS.sha256,
        _VERSIONS.created_at.label("created"),
        _VERSIONS.created_by,
        _MODELS.project_id,
    ).join_from(schema.models, schema.model_versions)


def _row(row: Mapping[Any, Any]) -> ModelRow:
    return ModelRow(**{**row, "project_id": row["project_id"] or None})
