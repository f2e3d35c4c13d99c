"""Users whom a policy excludes from metrics and experiments: from when to when."""

from streamgauge.sinks.postgres.revision import execute

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    execute(
        """
        ALTER TABLE {schema}.actions ALTER COLUMN rate DROP NOT NULL;
        ALTER TABLE {schema}.actions
            ADD COLUMN excluded_from timestamptz,
            ADD COLUMN excluded_until timestamptz;
        COMMENT ON COLUMN {schema}.actions.action IS
            'throttle: the collector lets in fewer events of the user. exclude: their events count '
            'in no metric and no experiment.';
        COMMENT ON COLUMN {schema}.actions.rate IS
            'Of throttle: events a minute that are let in; 0: none.';
        COMMENT ON COLUMN {schema}.actions.excluded_from IS
            'Of exclude: the first event time that does not count.';
        COMMENT ON COLUMN {schema}.actions.excluded_until IS
            'Of exclude: the first event time that counts again; null while it lasts.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DELETE FROM {schema}.actions WHERE rate IS NULL;
        ALTER TABLE {schema}.actions
            DROP COLUMN excluded_from, DROP COLUMN excluded_until, ALTER COLUMN rate SET NOT NULL;
        """
    )
