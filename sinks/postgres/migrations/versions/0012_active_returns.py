"""Returns of active users get a name of their own: the metric return_rate_7d is of sessions."""

from streamgauge.sinks.postgres.revision import execute

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    execute(
        """
        ALTER VIEW {schema}.return_rate_7d RENAME TO active_returns_daily;
        COMMENT ON VIEW {schema}.active_returns_daily IS
            'Of the users with an event on each day, those with one within the 7 days after it. '
            'The last 7 days are not over. The metric return_rate_7d is of who began a session: '
            'session_returns_daily.';
        """
    )


def downgrade() -> None:
    execute(
        """
        ALTER VIEW {schema}.active_returns_daily RENAME TO return_rate_7d;
        COMMENT ON VIEW {schema}.return_rate_7d IS
            'Of the users of each day, those who came back within the 7 days after it. '
            'The last 7 days are not over.';
        """
    )
