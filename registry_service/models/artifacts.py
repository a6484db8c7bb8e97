"""Bytes: uploads, the chunks of open ones, and the blobs that versions refer to."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry_service.models.base import Base


class UploadRow(Base):
    """An upload is open until `version` is set; its chunks are in the object store."""

    __tablename__ = "uploads"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "adapter_id"], ["adapters.tenant_id", "adapters.id"]),
        Index(None, "tenant_id", "adapter_id"),
    )
    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(63))
    adapter_id: Mapped[str] = mapped_column(String(63))
    files: Mapped[list[dict[str, Any]]]
    aliases: Mapped[list[str]]
    version: Mapped[int | None]
    create_time: Mapped[datetime]
    expire_time: Mapped[datetime]


class UploadChunkRow(Base):
    """A piece of a file of an open upload; a file's pieces follow each other without gaps."""

    __tablename__ = "upload_chunks"
    upload_id: Mapped[str] = mapped_column(
        ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )
    file_name: Mapped[str] = mapped_column(String(120), primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size_bytes: Mapped[int]
    object_key: Mapped[str] = mapped_column(Text)


class BlobRow(Base):
    """Stored bytes of one digest of one tenant. Committing and collecting take turns on its lock.

    `state` is "storing" while a commit writes the objects, "stored" once a version refers to them,
    "deleting" while the collector removes them. `touch_time` is when a commit last wanted them.
    """

    __tablename__ = "blobs"
    storage_path: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(String(63), index=True)
    size_bytes: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    touch_time: Mapped[datetime]
