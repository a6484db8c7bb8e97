"""Base models."""

from collections.abc import Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from registry_service.models import AdapterRow, BaseModelRow


def get(session: Session, base_model: str) -> BaseModelRow | None:
    return session.get(BaseModelRow, base_model)


def list_after(session: Session, after: str | None, limit: int) -> Sequence[BaseModelRow]:
    query = select(BaseModelRow).order_by(BaseModelRow.id).limit(limit)
    if after is not None:
        query = query.where(BaseModelRow.id > after)
    return session.scalars(query).all()


def is_used(session: Session, base_model: str) -> bool:
    """Whether any adapter, soft-deleted ones included, was made for it."""
    found = session.scalar(select(exists().where(AdapterRow.base_model_id == base_model)))
    return bool(found)
