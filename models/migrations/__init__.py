"""Schema changes: Alembic revisions whose body is plain SQL, in versions/."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlmodel import Session

from models import home
from models.database import open_engine


def migrate(url: str) -> str:
    """Bring the database up to the newest revision; returns its name. Repeating it changes nothing.

    Refused, and nothing is changed, if it was restored on a server where it cannot go on (models/home.py).
    """
    engine = open_engine(url, pool=2)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            with Session(connection) as session:
                home.move_in(session)
            row = connection.exec_driver_sql("select version_num from alembic_version").one()
            return str(row[0])
    finally:
        engine.dispose()
