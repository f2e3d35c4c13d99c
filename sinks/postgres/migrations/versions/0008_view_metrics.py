"""Views from which metrics of sessions and users are read: one row a day or week, and whether it
is final."""

from streamgauge.sinks.postgres.revision import execute

revision = "0008"
down_revision = "0007"

VIEWS = (
    "session_metrics",
    "weekly_genres",
    "active_users_daily",
    "productivity_daily",
    "user_means",
    "segment_engagement",
    "engagement_spread",
    "play_shares_daily",
)


def upgrade() -> None:
    execute(
        """
        CREATE VIEW {schema}.session_metrics AS
            SELECT day, sessions, users, mean_minutes, median_minutes, mean_events,
                sessions * bounce_rate AS bounces, bounce_rate,
                binge_sessions, playback_sessions, binge_rate,
                sessions * conversion_rate AS conversion_sessions, conversion_rate,
                open_sessions = 0
                    AND day + INTERVAL '1 day' <= (SELECT max(started_at) FROM {schema}.sessions)
                    AS is_final
            FROM {schema}.sessions_daily;
        COMMENT ON VIEW {schema}.session_metrics IS
            'sessions_daily with what rates are made of, and whether the day is over.';
        COMMENT ON COLUMN {schema}.session_metrics.day IS 'Start of the day, UTC.';
        COMMENT ON COLUMN {schema}.session_metrics.sessions IS 'Sessions that began on the day.';
        COMMENT ON COLUMN {schema}.session_metrics.users IS 'Who began a session.';
        COMMENT ON COLUMN {schema}.session_metrics.mean_minutes IS 'Mean length of a session.';
        COMMENT ON COLUMN {schema}.session_metrics.median_minutes IS 'Median length.';
        COMMENT ON COLUMN {schema}.session_metrics.mean_events IS 'Mean number of events.';
        COMMENT ON COLUMN {schema}.session_metrics.bounces IS 'Sessions of one event.';
        COMMENT ON COLUMN {schema}.session_metrics.bounce_rate IS 'bounces / sessions.';
        COMMENT ON COLUMN {schema}.session_metrics.binge_sessions IS
            'Sessions with three or more episodes of one series completed.';
        COMMENT ON COLUMN {schema}.session_metrics.playback_sessions IS 'Sessions with playback.';
        COMMENT ON COLUMN {schema}.session_metrics.binge_rate IS
            'binge_sessions / playback_sessions; null without any.';
        COMMENT ON COLUMN {schema}.session_metrics.conversion_sessions IS
            'Sessions with a conversion.';
        COMMENT ON COLUMN {schema}.session_metrics.conversion_rate IS
            'conversion_sessions / sessions.';
        COMMENT ON COLUMN {schema}.session_metrics.is_final IS
            'All of them are over, and sessions are there that began after the day.';

        CREATE VIEW {schema}.weekly_genres AS
            SELECT week::timestamp AT TIME ZONE 'UTC' AS week,
                count(*) AS users, avg(genres)::double precision AS genres,
                count(*) FILTER (WHERE genres < 5) AS users_below_5,
                count(*) FILTER (WHERE genres < 5)::double precision / count(*) AS share_below_5,
                user_week_genres.week + 7 < (SELECT max(date) FROM {schema}.daily_analytics)
                    AS is_final
            FROM {schema}.user_week_genres GROUP BY user_week_genres.week;
        COMMENT ON VIEW {schema}.weekly_genres IS
            'Distinct genres of a user in a week, over the users who played or clicked any.';
        COMMENT ON COLUMN {schema}.weekly_genres.week IS 'Start of the week, Monday, UTC.';
        COMMENT ON COLUMN {schema}.weekly_genres.users IS 'Users with a genre in the week.';
        COMMENT ON COLUMN {schema}.weekly_genres.genres IS
            'Mean number of distinct genres: aim at least 8.';
        COMMENT ON COLUMN {schema}.weekly_genres.users_below_5 IS 'Users with fewer than 5.';
        COMMENT ON COLUMN {schema}.weekly_genres.share_below_5 IS 'users_below_5 / users.';
        COMMENT ON COLUMN {schema}.weekly_genres.is_final IS
            'Days are there that are more than a day after the week.';

        CREATE VIEW {schema}.active_users_daily AS
            SELECT day.date::timestamp AT TIME ZONE 'UTC' AS day,
                (SELECT count(DISTINCT user_id) FROM {schema}.daily_analytics AS did
                 WHERE did.date BETWEEN day.date - 6 AND day.date AND did.events > 0)
                    AS users_7d,
                day.date + 1 < (SELECT max(date) FROM {schema}.daily_analytics) AS is_final
            FROM (SELECT DISTINCT date FROM {schema}.daily_analytics) AS day;
        COMMENT ON VIEW {schema}.active_users_daily IS
            'Distinct users of the 7 days up to and with each day.';
        COMMENT ON COLUMN {schema}.active_users_daily.day IS 'The last of the 7 days, UTC.';
        COMMENT ON COLUMN {schema}.active_users_daily.users_7d IS 'Users with an event on them.';
        COMMENT ON COLUMN {schema}.active_users_daily.is_final IS
            'Days are there that are more than a day later.';

        CREATE VIEW {schema}.productivity_daily AS
            SELECT date::timestamp AT TIME ZONE 'UTC' AS day, count(*) AS users,
                avg(productivity_score) AS productivity_score,
                date + 1 < (SELECT max(date) FROM {schema}.daily_analytics) AS is_final
            FROM {schema}.daily_analytics WHERE tasks_created + tasks_completed > 0
            GROUP BY date;
        COMMENT ON VIEW {schema}.productivity_daily IS
            'Mean productivity score of the users who created or completed a task on a day.';
        COMMENT ON COLUMN {schema}.productivity_daily.day IS 'Start of the day, UTC.';
        COMMENT ON COLUMN {schema}.productivity_daily.users IS 'Users with tasks.';
        COMMENT ON COLUMN {schema}.productivity_daily.productivity_score IS 'Mean, 0 to 100.';
        COMMENT ON COLUMN {schema}.productivity_daily.is_final IS
            'Days are there that are more than a day later.';

        CREATE VIEW {schema}.user_means AS
            SELECT max(computed_at) AS day, count(*) AS users,
                avg(engagement_score) AS engagement_score,
                count(learning_velocity) AS learners,
                avg(learning_velocity) AS learning_velocity,
                avg(dropout_risk) AS dropout_risk,
                coalesce(sum(tasks_overdue), 0)::bigint AS tasks_overdue
            FROM {schema}.user_profiles HAVING count(*) > 0;
        COMMENT ON VIEW {schema}.user_means IS 'Profiles as they stand: one row over all users.';
        COMMENT ON COLUMN {schema}.user_means.day IS 'Day of the newest profile.';
        COMMENT ON COLUMN {schema}.user_means.users IS 'Users with a profile.';
        COMMENT ON COLUMN {schema}.user_means.engagement_score IS 'Mean, 0 to 100.';
        COMMENT ON COLUMN {schema}.user_means.learners IS 'Users who ever learned anything.';
        COMMENT ON COLUMN {schema}.user_means.learning_velocity IS 'Mean of the learners.';
        COMMENT ON COLUMN {schema}.user_means.dropout_risk IS 'Mean of the learners, 0 to 1.';
        COMMENT ON COLUMN {schema}.user_means.tasks_overdue IS
            'Tasks completed after their due date.';

        CREATE VIEW {schema}.segment_engagement AS
            SELECT (SELECT max(computed_at) FROM {schema}.user_profiles) AS day,
                segment, members, engagement_score
            FROM {schema}.segment_fairness;
        COMMENT ON VIEW {schema}.segment_engagement IS
            'Mean engagement score by segment, as profiles and segments stand.';
        COMMENT ON COLUMN {schema}.segment_engagement.day IS 'Day of the newest profile.';
        COMMENT ON COLUMN {schema}.segment_engagement.segment IS 'The segment.';
        COMMENT ON COLUMN {schema}.segment_engagement.members IS 'Who is in it, with a profile.';
        COMMENT ON COLUMN {schema}.segment_engagement.engagement_score IS 'Mean of the members.';

        CREATE VIEW {schema}.engagement_spread AS
            SELECT max(day) AS day, sum(members)::bigint AS members,
                max(engagement_score) - min(engagement_score) AS range,
                avg(engagement_score) AS mean,
                (max(engagement_score) - min(engagement_score)) / nullif(avg(engagement_score), 0)
                    AS spread
            FROM {schema}.segment_engagement HAVING count(*) > 0;
        COMMENT ON VIEW {schema}.engagement_spread IS
            'How far engagement differs between segments: one row, as they stand.';
        COMMENT ON COLUMN {schema}.engagement_spread.day IS 'Day of the newest profile.';
        COMMENT ON COLUMN {schema}.engagement_spread.members IS 'Memberships.';
        COMMENT ON COLUMN {schema}.engagement_spread.range IS
            'Highest mean of a segment less the lowest.';
        COMMENT ON COLUMN {schema}.engagement_spread.mean IS 'Mean of the segments'' means.';
        COMMENT ON COLUMN {schema}.engagement_spread.spread IS 'range / mean: aim at most 0.1.';

        CREATE VIEW {schema}.play_shares_daily AS
            WITH plays AS (
                SELECT window_start AS day, version, by, value, is_final,
                    sum(value) OVER named AS total
                FROM {schema}.metrics,
                    LATERAL (SELECT jsonb_object_keys(dimensions)) AS dimension (by)
                WHERE metric = 'plays' AND window_size = '1d' AND value > 0
                    AND jsonb_typeof(dimensions->by) <> 'null'
                    AND (dimensions = jsonb_build_object('genre', dimensions->'genre')
                        OR dimensions = jsonb_build_object('creator_id', dimensions->'creator_id'))
                WINDOW named AS (PARTITION BY window_start, version, by)
            ), shares AS (
                SELECT day, version, by, total, max(value) / total AS largest,
                    -sum(value / total * ln(value / total)) AS diversity,
                    bool_and(is_final) AS is_final
                FROM plays GROUP BY day, version, by, total
            )
            SELECT DISTINCT ON (day, by) day, by, total AS plays, largest, diversity, is_final
            FROM shares ORDER BY day, by, total DESC;
        COMMENT ON VIEW {schema}.play_shares_daily IS
            'How the plays of a day are shared among genres, and among creators, as far as events '
            'name them; from the metric plays.';
        COMMENT ON COLUMN {schema}.play_shares_daily.day IS 'Start of the day, UTC.';
        COMMENT ON COLUMN {schema}.play_shares_daily.by IS 'genre or creator_id.';
        COMMENT ON COLUMN {schema}.play_shares_daily.plays IS 'Plays that name one.';
        COMMENT ON COLUMN {schema}.play_shares_daily.largest IS 'Share of the largest.';
        COMMENT ON COLUMN {schema}.play_shares_daily.diversity IS
            'Shannon diversity: the sum of -p ln p over their shares p.';
        COMMENT ON COLUMN {schema}.play_shares_daily.is_final IS 'The day is over.';
        """
    )


def downgrade() -> None:
    for view in reversed(VIEWS):
        execute(f"DROP VIEW {{schema}}.{view};")
