"""Sessions of users and of their devices, and the session metrics as views."""

from streamgauge.sinks.postgres.revision import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.sessions (
            user_id text NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz,
            duration_seconds double precision,
            events bigint,
            page_views bigint,
            entry_page text,
            exit_page text,
            conversions bigint,
            playbacks bigint,
            is_bounce boolean,
            is_binge boolean,
            is_final boolean,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, started_at)
        ) PARTITION BY RANGE (started_at);
        CREATE INDEX sessions_started_at ON {schema}.sessions (started_at);
        COMMENT ON TABLE {schema}.sessions IS
            'Sessions of users over all devices, as they stand; one month a partition.';
        COMMENT ON COLUMN {schema}.sessions.user_id IS
            'Whose session it is: user_id, or anonymous_id where there is none.';
        COMMENT ON COLUMN {schema}.sessions.started_at IS 'Time of its first event.';
        COMMENT ON COLUMN {schema}.sessions.ended_at IS 'Time of its last event.';
        COMMENT ON COLUMN {schema}.sessions.duration_seconds IS
            'From the first to the last event; 0 for a single one.';
        COMMENT ON COLUMN {schema}.sessions.events IS 'How many events it has.';
        COMMENT ON COLUMN {schema}.sessions.page_views IS 'How many of them are page views.';
        COMMENT ON COLUMN {schema}.sessions.entry_page IS
            'Page of its first event that has one, up to ? or #.';
        COMMENT ON COLUMN {schema}.sessions.exit_page IS 'Page of its last event that has one.';
        COMMENT ON COLUMN {schema}.sessions.conversions IS
            'How many events are conversions: form_submit, course_interaction enroll.';
        COMMENT ON COLUMN {schema}.sessions.playbacks IS 'How many events are of type playback.';
        COMMENT ON COLUMN {schema}.sessions.is_bounce IS 'It has one event.';
        COMMENT ON COLUMN {schema}.sessions.is_binge IS
            'Three or more episodes of one series were completed in it.';
        COMMENT ON COLUMN {schema}.sessions.is_final IS
            'It is over and will not change; until then it is as it stands.';
        COMMENT ON COLUMN {schema}.sessions.source_partition IS
            'Partition of the topic sessions that the row came from.';
        COMMENT ON COLUMN {schema}.sessions.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.sessions.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.sessions.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.device_sessions (
            user_id text NOT NULL,
            device_type text NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz,
            duration_seconds double precision,
            events bigint,
            page_views bigint,
            entry_page text,
            exit_page text,
            conversions bigint,
            playbacks bigint,
            is_bounce boolean,
            is_binge boolean,
            is_final boolean,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, device_type, started_at)
        ) PARTITION BY RANGE (started_at);
        CREATE INDEX device_sessions_started_at ON {schema}.device_sessions (started_at);
        COMMENT ON TABLE {schema}.device_sessions IS
            'Sessions of users on each type of device; one month a partition.';
        COMMENT ON COLUMN {schema}.device_sessions.user_id IS
            'Whose session it is: user_id, or anonymous_id where there is none.';
        COMMENT ON COLUMN {schema}.device_sessions.device_type IS
            'Type of device: mobile, tablet, desktop, tv; empty for events that name none.';
        COMMENT ON COLUMN {schema}.device_sessions.started_at IS 'Time of its first event.';
        COMMENT ON COLUMN {schema}.device_sessions.ended_at IS 'Time of its last event.';
        COMMENT ON COLUMN {schema}.device_sessions.duration_seconds IS
            'From the first to the last event; 0 for a single one.';
        COMMENT ON COLUMN {schema}.device_sessions.events IS 'How many events it has.';
        COMMENT ON COLUMN {schema}.device_sessions.page_views IS 'How many of them are page views.';
        COMMENT ON COLUMN {schema}.device_sessions.entry_page IS
            'Page of its first event that has one, up to ? or #.';
        COMMENT ON COLUMN {schema}.device_sessions.exit_page IS
            'Page of its last event that has one.';
        COMMENT ON COLUMN {schema}.device_sessions.conversions IS
            'How many events are conversions: form_submit, course_interaction enroll.';
        COMMENT ON COLUMN {schema}.device_sessions.playbacks IS
            'How many events are of type playback.';
        COMMENT ON COLUMN {schema}.device_sessions.is_bounce IS 'It has one event.';
        COMMENT ON COLUMN {schema}.device_sessions.is_binge IS
            'Three or more episodes of one series were completed in it.';
        COMMENT ON COLUMN {schema}.device_sessions.is_final IS
            'It is over and will not change; until then it is as it stands.';
        COMMENT ON COLUMN {schema}.device_sessions.source_partition IS
            'Partition of the topic device-sessions that the row came from.';
        COMMENT ON COLUMN {schema}.device_sessions.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.device_sessions.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.device_sessions.updated_at IS 'When the row was last written.';

        CREATE VIEW {schema}.sessions_daily AS
        SELECT date_trunc('day', started_at, 'UTC') AS day,
               count(*) AS sessions,
               count(*) FILTER (WHERE NOT is_final) AS open_sessions,
               count(DISTINCT user_id) AS users,
               avg(duration_seconds) / 60 AS mean_minutes,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) / 60
                   AS median_minutes,
               avg(events) AS mean_events,
               avg(is_bounce::int) AS bounce_rate,
               count(*) FILTER (WHERE playbacks > 0) AS playback_sessions,
               count(*) FILTER (WHERE is_binge) AS binge_sessions,
               count(*) FILTER (WHERE is_binge)::double precision
                   / nullif(count(*) FILTER (WHERE playbacks > 0), 0) AS binge_rate,
               avg((conversions > 0)::int) AS conversion_rate
        FROM {schema}.sessions GROUP BY 1;
        COMMENT ON VIEW {schema}.sessions_daily IS
            'Session metrics by the UTC day on which sessions began; provisional while some of '
            'them are open.';
        COMMENT ON COLUMN {schema}.sessions_daily.day IS 'Start of the day, UTC.';
        COMMENT ON COLUMN {schema}.sessions_daily.sessions IS 'Sessions that began on the day.';
        COMMENT ON COLUMN {schema}.sessions_daily.open_sessions IS
            'How many of them are not over; 0: the row will not change.';
        COMMENT ON COLUMN {schema}.sessions_daily.users IS 'Who began a session.';
        COMMENT ON COLUMN {schema}.sessions_daily.mean_minutes IS 'Mean length of a session.';
        COMMENT ON COLUMN {schema}.sessions_daily.median_minutes IS 'Median length.';
        COMMENT ON COLUMN {schema}.sessions_daily.mean_events IS 'Mean number of events.';
        COMMENT ON COLUMN {schema}.sessions_daily.bounce_rate IS
            'Sessions of one event, as a share of all.';
        COMMENT ON COLUMN {schema}.sessions_daily.playback_sessions IS 'Sessions with playback.';
        COMMENT ON COLUMN {schema}.sessions_daily.binge_sessions IS
            'Sessions with three or more episodes of one series completed.';
        COMMENT ON COLUMN {schema}.sessions_daily.binge_rate IS
            'binge_sessions / playback_sessions; null without any.';
        COMMENT ON COLUMN {schema}.sessions_daily.conversion_rate IS
            'Sessions with a conversion, as a share of all.';

        CREATE VIEW {schema}.session_returns_daily AS
        WITH days AS (
            SELECT user_id, date_trunc('day', started_at, 'UTC') AS day, count(*) AS sessions
            FROM {schema}.sessions GROUP BY 1, 2
        ), weeks AS (
            SELECT user_id, day,
                   sum(sessions) OVER week AS sessions,
                   max(day) OVER week > day AS returns
            FROM days
            WINDOW week AS (
                PARTITION BY user_id ORDER BY day
                RANGE BETWEEN CURRENT ROW AND INTERVAL '7 days' FOLLOWING
            )
        )
        SELECT day,
               count(*) AS users,
               count(*) FILTER (WHERE returns) AS returning_users,
               avg(returns::int) AS return_rate_7d,
               avg(sessions) AS return_frequency,
               day + INTERVAL '8 days' <= (SELECT max(started_at) FROM {schema}.sessions)
                   AS is_complete
        FROM weeks GROUP BY day;
        COMMENT ON VIEW {schema}.session_returns_daily IS
            'Who came on a UTC day and came back within the 7 days after it.';
        COMMENT ON COLUMN {schema}.session_returns_daily.day IS 'Start of the day, UTC.';
        COMMENT ON COLUMN {schema}.session_returns_daily.users IS
            'Who began a session on the day.';
        COMMENT ON COLUMN {schema}.session_returns_daily.returning_users IS
            'Who of them began one on any of the 7 days after it.';
        COMMENT ON COLUMN {schema}.session_returns_daily.return_rate_7d IS
            'returning_users / users.';
        COMMENT ON COLUMN {schema}.session_returns_daily.return_frequency IS
            'Mean number of sessions of these users, on the day and the 7 days after it.';
        COMMENT ON COLUMN {schema}.session_returns_daily.is_complete IS
            'Whether sessions are there that begin after the 7 days.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DROP VIEW {schema}.session_returns_daily;
        DROP VIEW {schema}.sessions_daily;
        DROP TABLE {schema}.device_sessions;
        DROP TABLE {schema}.sessions;
        """
    )
