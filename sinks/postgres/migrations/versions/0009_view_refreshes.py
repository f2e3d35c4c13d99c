"""When each materialised view was refreshed last, so that many sinks refresh it once."""

from streamgauge.sinks.postgres.revision import execute

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.view_refreshes (
            view text PRIMARY KEY,
            refreshed_at timestamptz NOT NULL,
            seconds double precision NOT NULL
        );
        COMMENT ON TABLE {schema}.view_refreshes IS
            'When each materialised view was refreshed last: how old what it shows can be.';
        COMMENT ON COLUMN {schema}.view_refreshes.view IS 'Name of the view.';
        COMMENT ON COLUMN {schema}.view_refreshes.refreshed_at IS
            'When its refresh began: what was written later is not in it.';
        COMMENT ON COLUMN {schema}.view_refreshes.seconds IS 'How long it took.';
        """
    )


def downgrade() -> None:
    execute("DROP TABLE {schema}.view_refreshes;")
