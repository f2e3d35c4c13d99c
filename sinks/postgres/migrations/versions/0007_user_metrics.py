"""Questions about all users as views: genres a week, who comes back, fairness across segments."""

from streamgauge.sinks.postgres.revision import execute

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    execute(
        """
        CREATE VIEW {schema}.user_week_genres AS
            SELECT user_id, date_trunc('week', date)::date AS week,
                count(DISTINCT genre) AS genres
            FROM {schema}.daily_analytics, unnest(genres) AS genre
            GROUP BY user_id, week;
        COMMENT ON VIEW {schema}.user_week_genres IS
            'Distinct genres that each user played or clicked in each week: aim 8, alert below 5.';
        COMMENT ON COLUMN {schema}.user_week_genres.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_week_genres.week IS 'Monday of the week.';
        COMMENT ON COLUMN {schema}.user_week_genres.genres IS 'Distinct genres.';

        CREATE VIEW {schema}.return_rate_7d AS
            SELECT date, count(*) AS users, count(*) FILTER (WHERE next_date <= date + 7)
                AS returned, count(*) FILTER (WHERE next_date <= date + 7)::double precision
                / count(*) AS rate
            FROM (
                SELECT user_id, date,
                    lead(date) OVER (PARTITION BY user_id ORDER BY date) AS next_date
                FROM {schema}.daily_analytics WHERE events > 0
            ) AS days
            GROUP BY date;
        COMMENT ON VIEW {schema}.return_rate_7d IS
            'Of the users of each day, those who came back within the 7 days after it. '
            'The last 7 days are not over.';
        COMMENT ON COLUMN {schema}.return_rate_7d.date IS 'The day.';
        COMMENT ON COLUMN {schema}.return_rate_7d.users IS 'Users with an event on it.';
        COMMENT ON COLUMN {schema}.return_rate_7d.returned IS 'Those with one within 7 days after.';
        COMMENT ON COLUMN {schema}.return_rate_7d.rate IS 'returned / users.';

        CREATE VIEW {schema}.segment_fairness AS
            SELECT segment, members, engagement_score,
                (max(engagement_score) OVER () - min(engagement_score) OVER ())
                    / nullif(avg(engagement_score) OVER (), 0) AS spread
            FROM (
                SELECT s.segment, count(*) AS members, avg(p.engagement_score) AS engagement_score
                FROM {schema}.user_segments s JOIN {schema}.user_profiles p USING (user_id)
                WHERE s.left_at IS NULL GROUP BY s.segment
            ) AS by_segment;
        COMMENT ON VIEW {schema}.segment_fairness IS
            'Mean engagement by segment, and its spread across segments (aim at most 0.1).';
        COMMENT ON COLUMN {schema}.segment_fairness.segment IS 'The segment.';
        COMMENT ON COLUMN {schema}.segment_fairness.members IS 'Who is in it, with a profile.';
        COMMENT ON COLUMN {schema}.segment_fairness.engagement_score IS 'Mean of the members.';
        COMMENT ON COLUMN {schema}.segment_fairness.spread IS
            '(highest - lowest) / mean of the segments'' means; the same in all rows.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DROP VIEW {schema}.segment_fairness;
        DROP VIEW {schema}.return_rate_7d;
        DROP VIEW {schema}.user_week_genres;
        """
    )
