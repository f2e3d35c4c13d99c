"""Profiles: tables of users, devices and days, and the materialised views over them."""

from streamgauge.sinks.postgres.revision import execute

revision = "0003"
down_revision = "0002"

HASHED = {"user_profiles": 16, "user_temporal_metrics": 16, "user_device_preferences": 8}
VIEWS = (
    "user_metrics_hourly",
    "user_task_stats",
    "user_priority_distribution",
    "user_status_distribution",
    "user_monthly_trends",
)


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.user_profiles (
            user_id text NOT NULL,
            computed_at timestamptz,
            first_seen timestamptz,
            last_seen timestamptz,
            events bigint,
            active_days bigint,
            current_streak bigint,
            active_days_7 bigint,
            active_days_28 bigint,
            days_since_last_seen bigint,
            engagement_score double precision,
            learning_velocity double precision,
            dropout_risk double precision,
            avg_session_seconds double precision,
            avg_quiz_score double precision,
            avg_completion double precision,
            preferred_device text,
            preferred_genres text[],
            preferred_content_types text[],
            preferred_hours integer[],
            preferred_watch_hours integer[],
            country text,
            page_views bigint,
            course_interactions bigint,
            learning_sessions bigint,
            quiz_attempts bigint,
            searches bigint,
            button_clicks bigint,
            link_clicks bigint,
            form_submits bigint,
            feeds_generated bigint,
            feed_views bigint,
            feed_clicks bigint,
            content_interactions bigint,
            playbacks bigint,
            ratings bigint,
            task_updates bigint,
            requests bigint,
            exposures bigint,
            identifies bigint,
            consent_changes bigint,
            customs bigint,
            other_events bigint,
            plays bigint,
            plays_completed bigint,
            plays_skipped bigint,
            course_views bigint,
            enrolments bigint,
            courses_completed bigint,
            likes bigint,
            comments bigint,
            shares bigint,
            saves bigint,
            tasks_created bigint,
            tasks_completed bigint,
            mobile_events bigint,
            tablet_events bigint,
            desktop_events bigint,
            tv_events bigint,
            tasks_todo bigint,
            tasks_in_progress bigint,
            tasks_done bigint,
            tasks_overdue bigint,
            zero_result_searches bigint,
            quizzes_scored bigint,
            learning_rated bigint,
            ratings_scored bigint,
            exploration_said bigint,
            explored bigint,
            sessions bigint,
            bounces bigint,
            binges bigint,
            quiz_score bigint,
            completion bigint,
            learning_time bigint,
            watched_ms bigint,
            session_ms bigint,
            feedback bigint,
            tasks_by_priority jsonb,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id)
        ) PARTITION BY HASH (user_id);
        COMMENT ON TABLE {schema}.user_profiles IS
            'Profiles of users: the newest record of each; figures as of computed_at.';
        COMMENT ON COLUMN {schema}.user_profiles.user_id IS
            'Whose it is: user_id, or anonymous_id without one.';
        COMMENT ON COLUMN {schema}.user_profiles.computed_at IS
            'Begin of the day as of which the derived figures hold.';
        COMMENT ON COLUMN {schema}.user_profiles.first_seen IS 'Time of the first event.';
        COMMENT ON COLUMN {schema}.user_profiles.last_seen IS 'Time of the last event.';
        COMMENT ON COLUMN {schema}.user_profiles.events IS 'Events of all types.';
        COMMENT ON COLUMN {schema}.user_profiles.active_days IS 'Days with an event.';
        COMMENT ON COLUMN {schema}.user_profiles.current_streak IS
            'Days in a row with an event, up to computed_at or the day before.';
        COMMENT ON COLUMN {schema}.user_profiles.active_days_7 IS
            'Days with an event among the day of computed_at and 6 before.';
        COMMENT ON COLUMN {schema}.user_profiles.active_days_28 IS
            'Days with an event among the day of computed_at and 27 before.';
        COMMENT ON COLUMN {schema}.user_profiles.days_since_last_seen IS
            'Whole days from the last day with an event to computed_at.';
        COMMENT ON COLUMN {schema}.user_profiles.engagement_score IS
            '0 to 100; see docs/profiles.md.';
        COMMENT ON COLUMN {schema}.user_profiles.learning_velocity IS
            'Learned a day, recent days first; null for no learner.';
        COMMENT ON COLUMN {schema}.user_profiles.dropout_risk IS
            '0 to 1, a heuristic; null for no learner.';
        COMMENT ON COLUMN {schema}.user_profiles.avg_session_seconds IS
            'Mean length of the sessions that are over.';
        COMMENT ON COLUMN {schema}.user_profiles.avg_quiz_score IS
            'Mean of score / total_questions, or of score.';
        COMMENT ON COLUMN {schema}.user_profiles.avg_completion IS
            'Mean completion_rate of learning sessions.';
        COMMENT ON COLUMN {schema}.user_profiles.preferred_device IS
            'Device type with the most events.';
        COMMENT ON COLUMN {schema}.user_profiles.preferred_genres IS
            'Up to 5 genres, the strongest affinity first.';
        COMMENT ON COLUMN {schema}.user_profiles.preferred_content_types IS
            'Up to 5 content types, likewise.';
        COMMENT ON COLUMN {schema}.user_profiles.preferred_hours IS
            'Up to 3 hours of the day (UTC) with the most events.';
        COMMENT ON COLUMN {schema}.user_profiles.preferred_watch_hours IS
            'Up to 3 hours (UTC) with the most playback.';
        COMMENT ON COLUMN {schema}.user_profiles.country IS 'The country last said.';
        COMMENT ON COLUMN {schema}.user_profiles.page_views IS 'Events of type page_view.';
        COMMENT ON COLUMN {schema}.user_profiles.course_interactions IS
            'Events of type course_interaction.';
        COMMENT ON COLUMN {schema}.user_profiles.learning_sessions IS
            'Events of type learning_session.';
        COMMENT ON COLUMN {schema}.user_profiles.quiz_attempts IS 'Events of type quiz_attempt.';
        COMMENT ON COLUMN {schema}.user_profiles.searches IS 'Events of type search.';
        COMMENT ON COLUMN {schema}.user_profiles.button_clicks IS 'Events of type button_click.';
        COMMENT ON COLUMN {schema}.user_profiles.link_clicks IS 'Events of type link_click.';
        COMMENT ON COLUMN {schema}.user_profiles.form_submits IS 'Events of type form_submit.';
        COMMENT ON COLUMN {schema}.user_profiles.feeds_generated IS
            'Events of type feed_generated.';
        COMMENT ON COLUMN {schema}.user_profiles.feed_views IS 'Events of type feed_view.';
        COMMENT ON COLUMN {schema}.user_profiles.feed_clicks IS 'Events of type feed_click.';
        COMMENT ON COLUMN {schema}.user_profiles.content_interactions IS
            'Events of type content_interaction.';
        COMMENT ON COLUMN {schema}.user_profiles.playbacks IS 'Events of type playback.';
        COMMENT ON COLUMN {schema}.user_profiles.ratings IS 'Events of type rating.';
        COMMENT ON COLUMN {schema}.user_profiles.task_updates IS 'Events of type task_update.';
        COMMENT ON COLUMN {schema}.user_profiles.requests IS 'Events of type request.';
        COMMENT ON COLUMN {schema}.user_profiles.exposures IS 'Events of type experiment_exposure.';
        COMMENT ON COLUMN {schema}.user_profiles.identifies IS 'Events of type identify.';
        COMMENT ON COLUMN {schema}.user_profiles.consent_changes IS
            'Events of type consent_change.';
        COMMENT ON COLUMN {schema}.user_profiles.customs IS 'Events of type custom.';
        COMMENT ON COLUMN {schema}.user_profiles.other_events IS 'Events of any other type.';
        COMMENT ON COLUMN {schema}.user_profiles.plays IS 'playback with action start.';
        COMMENT ON COLUMN {schema}.user_profiles.plays_completed IS
            'playback with action complete.';
        COMMENT ON COLUMN {schema}.user_profiles.plays_skipped IS 'playback with action skip.';
        COMMENT ON COLUMN {schema}.user_profiles.course_views IS
            'course_interaction with action view.';
        COMMENT ON COLUMN {schema}.user_profiles.enrolments IS
            'course_interaction with action enroll.';
        COMMENT ON COLUMN {schema}.user_profiles.courses_completed IS
            'course_interaction with action complete.';
        COMMENT ON COLUMN {schema}.user_profiles.likes IS 'content_interaction with action like.';
        COMMENT ON COLUMN {schema}.user_profiles.comments IS
            'content_interaction with action comment.';
        COMMENT ON COLUMN {schema}.user_profiles.shares IS 'content_interaction with action share.';
        COMMENT ON COLUMN {schema}.user_profiles.saves IS 'content_interaction with action save.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_created IS
            'task_update with action created.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_completed IS
            'task_update with action completed.';
        COMMENT ON COLUMN {schema}.user_profiles.mobile_events IS 'Events with device_type mobile.';
        COMMENT ON COLUMN {schema}.user_profiles.tablet_events IS 'Events with device_type tablet.';
        COMMENT ON COLUMN {schema}.user_profiles.desktop_events IS
            'Events with device_type desktop.';
        COMMENT ON COLUMN {schema}.user_profiles.tv_events IS 'Events with device_type tv.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_todo IS 'task_update with status todo.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_in_progress IS
            'task_update with status in_progress.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_done IS 'task_update with status done.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_overdue IS
            'Tasks completed after their due_date.';
        COMMENT ON COLUMN {schema}.user_profiles.zero_result_searches IS
            'Searches with results_count 0.';
        COMMENT ON COLUMN {schema}.user_profiles.quizzes_scored IS 'quiz_attempt with a score.';
        COMMENT ON COLUMN {schema}.user_profiles.learning_rated IS
            'learning_session with a completion_rate.';
        COMMENT ON COLUMN {schema}.user_profiles.ratings_scored IS 'rating with a score.';
        COMMENT ON COLUMN {schema}.user_profiles.exploration_said IS
            'feed_view, feed_click and playback start that say exploration.';
        COMMENT ON COLUMN {schema}.user_profiles.explored IS 'Those of them with exploration true.';
        COMMENT ON COLUMN {schema}.user_profiles.sessions IS
            'Sessions that are over, across devices.';
        COMMENT ON COLUMN {schema}.user_profiles.bounces IS 'Those of them with one event.';
        COMMENT ON COLUMN {schema}.user_profiles.binges IS
            'Those of them in which 3 or more episodes of one series were completed.';
        COMMENT ON COLUMN {schema}.user_profiles.quiz_score IS
            'Of quiz_attempt: score / total_questions, or score; scaled by a million.';
        COMMENT ON COLUMN {schema}.user_profiles.completion IS
            'Of learning_session: completion_rate, scaled by a million.';
        COMMENT ON COLUMN {schema}.user_profiles.learning_time IS
            'Of learning_session: duration, scaled by a million.';
        COMMENT ON COLUMN {schema}.user_profiles.watched_ms IS
            'Milliseconds watched: of each play where it ended (complete or skip).';
        COMMENT ON COLUMN {schema}.user_profiles.session_ms IS
            'Milliseconds of the sessions that are over.';
        COMMENT ON COLUMN {schema}.user_profiles.feedback IS
            'Of rating: score, scaled by a million.';
        COMMENT ON COLUMN {schema}.user_profiles.tasks_by_priority IS
            'Tasks created and completed by priority, as far as events say one.';
        COMMENT ON COLUMN {schema}.user_profiles.source_partition IS
            'Partition of the topic user-profiles that the row came from.';
        COMMENT ON COLUMN {schema}.user_profiles.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.user_profiles.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.user_profiles.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.user_temporal_metrics (
            user_id text NOT NULL,
            avg_session_length_minutes double precision,
            total_watch_time_hours double precision,
            binge_session_count bigint,
            preferred_genres text[],
            preferred_watch_times integer[],
            device_split jsonb,
            extended_metrics jsonb,
            computed_at timestamptz,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id)
        ) PARTITION BY HASH (user_id);
        COMMENT ON TABLE {schema}.user_temporal_metrics IS
            'When, how long and on what each user watches and works; one row a user.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.user_id IS
            'Whose it is: user_id, or anonymous_id without one.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.avg_session_length_minutes IS
            'Mean length of the sessions that are over.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.total_watch_time_hours IS
            'Hours watched: each play where it ended.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.binge_session_count IS
            'Sessions with 3 or more completed episodes of one series.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.preferred_genres IS
            'Up to 5 genres, the strongest affinity first.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.preferred_watch_times IS
            'Up to 3 hours of the day (0-23, UTC) with the most playback.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.device_split IS
            'Share of each device type in the events that name one.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.extended_metrics IS
            'Further shares and counts of the profile, by name.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.computed_at IS
            'Begin of the day as of which the figures hold.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.source_partition IS
            'Partition of the topic user-profiles that the row came from.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.user_temporal_metrics.updated_at IS
            'When the row was last written.';

        CREATE TABLE {schema}.user_device_preferences (
            user_id text NOT NULL,
            device_type text NOT NULL,
            screen_size text,
            connection_speed text,
            preferred_quality text,
            usage_patterns jsonb,
            computed_at timestamptz,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, device_type)
        ) PARTITION BY HASH (user_id);
        COMMENT ON TABLE {schema}.user_device_preferences IS
            'What each user has set up on each type of device.';
        COMMENT ON COLUMN {schema}.user_device_preferences.user_id IS
            'Whose it is: user_id, or anonymous_id without one.';
        COMMENT ON COLUMN {schema}.user_device_preferences.device_type IS
            'mobile, tablet, desktop or tv.';
        COMMENT ON COLUMN {schema}.user_device_preferences.screen_size IS
            'The most frequent on this device.';
        COMMENT ON COLUMN {schema}.user_device_preferences.connection_speed IS
            'The most frequent on this device.';
        COMMENT ON COLUMN {schema}.user_device_preferences.preferred_quality IS
            'The most frequent quality of playback on this device.';
        COMMENT ON COLUMN {schema}.user_device_preferences.usage_patterns IS
            'Events on this device, and their share in those of all devices.';
        COMMENT ON COLUMN {schema}.user_device_preferences.computed_at IS
            'Begin of the day as of which the row was written.';
        COMMENT ON COLUMN {schema}.user_device_preferences.source_partition IS
            'Partition of the topic user-profiles that the row came from.';
        COMMENT ON COLUMN {schema}.user_device_preferences.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.user_device_preferences.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.user_device_preferences.updated_at IS
            'When the row was last written.';

        CREATE TABLE {schema}.daily_analytics (
            user_id text NOT NULL,
            date date NOT NULL,
            tasks_created bigint,
            tasks_completed bigint,
            completion_rate double precision,
            productivity_score double precision,
            events bigint,
            sessions bigint,
            minutes double precision,
            genres text[],
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, date)
        ) PARTITION BY RANGE (date);
        COMMENT ON TABLE {schema}.daily_analytics IS
            'What each user did on each day; one month a partition.';
        COMMENT ON COLUMN {schema}.daily_analytics.user_id IS
            'Whose it is: user_id, or anonymous_id without one.';
        COMMENT ON COLUMN {schema}.daily_analytics.date IS 'Day, UTC.';
        COMMENT ON COLUMN {schema}.daily_analytics.tasks_created IS
            'task_update events with action created.';
        COMMENT ON COLUMN {schema}.daily_analytics.tasks_completed IS
            'task_update events with action completed.';
        COMMENT ON COLUMN {schema}.daily_analytics.completion_rate IS
            'tasks_completed / tasks_created; null without any.';
        COMMENT ON COLUMN {schema}.daily_analytics.productivity_score IS
            '0 to 100: 70 for the completion rate, 30 for up to five completed tasks.';
        COMMENT ON COLUMN {schema}.daily_analytics.events IS 'Events of all types.';
        COMMENT ON COLUMN {schema}.daily_analytics.sessions IS
            'Sessions that began on the day and are over.';
        COMMENT ON COLUMN {schema}.daily_analytics.minutes IS 'Minutes of these sessions.';
        COMMENT ON COLUMN {schema}.daily_analytics.genres IS 'Genres played or clicked, by name.';
        COMMENT ON COLUMN {schema}.daily_analytics.source_partition IS
            'Partition of the topic daily-analytics that the row came from.';
        COMMENT ON COLUMN {schema}.daily_analytics.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.daily_analytics.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.daily_analytics.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.user_links (
            anonymous_id text NOT NULL,
            user_id text NOT NULL,
            linked_at timestamptz,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (anonymous_id, user_id)
        );
        COMMENT ON TABLE {schema}.user_links IS
            'Which anonymous_id is which user_id, from identify events.';
        COMMENT ON COLUMN {schema}.user_links.anonymous_id IS 'Name before the login.';
        COMMENT ON COLUMN {schema}.user_links.user_id IS 'Name after it.';
        COMMENT ON COLUMN {schema}.user_links.linked_at IS
            'Time of the earliest identify event with both.';
        COMMENT ON COLUMN {schema}.user_links.source_partition IS
            'Partition of the topic user-links that the row came from.';
        COMMENT ON COLUMN {schema}.user_links.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.user_links.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.user_links.updated_at IS 'When the row was last written.';

        CREATE INDEX user_temporal_metrics_updated_at
            ON {schema}.user_temporal_metrics (updated_at);
        CREATE INDEX user_temporal_metrics_preferred_genres
            ON {schema}.user_temporal_metrics USING gin (preferred_genres);
        CREATE INDEX daily_analytics_date ON {schema}.daily_analytics (date);
        CREATE INDEX user_links_user_id ON {schema}.user_links (user_id);
        """
    )
    for table, count in HASHED.items():
        for number in range(count):
            execute(
                f"""
                CREATE TABLE {{schema}}.{table}_{number:02}
                    (LIKE {{schema}}.{table} INCLUDING ALL) WITH (fillfactor = 50);
                ALTER TABLE {{schema}}.{table} ATTACH PARTITION {{schema}}.{table}_{number:02}
                    FOR VALUES WITH (MODULUS {count}, REMAINDER {number});
                COMMENT ON TABLE {{schema}}.{table}_{number:02} IS
                    '{table}: users whose hash is {number} of {count}.';
                """
            )
    execute(
        """
        CREATE MATERIALIZED VIEW {schema}.user_metrics_hourly AS
            SELECT user_id, date_trunc('hour', started_at) AS hour, count(*) AS sessions,
                sum(events) AS events, sum(duration_seconds) / 60 AS minutes,
                sum(page_views) AS page_views, sum(conversions) AS conversions,
                count(*) FILTER (WHERE is_bounce) AS bounces
            FROM {schema}.sessions
            WHERE started_at > (SELECT max(started_at) FROM {schema}.sessions) - interval '7 days'
            GROUP BY user_id, hour;
        CREATE UNIQUE INDEX user_metrics_hourly_key
            ON {schema}.user_metrics_hourly (user_id, hour);
        COMMENT ON MATERIALIZED VIEW {schema}.user_metrics_hourly IS
            'Sessions by user and hour of their start, of the 7 days before the newest.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.hour IS 'Start of the hour.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.sessions IS 'Sessions begun.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.events IS 'Their events.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.minutes IS 'Their minutes.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.page_views IS 'Their page views.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.conversions IS 'Their conversions.';
        COMMENT ON COLUMN {schema}.user_metrics_hourly.bounces IS 'Those with one event.';

        CREATE MATERIALIZED VIEW {schema}.user_task_stats AS
            SELECT user_id, sum(tasks_created) AS tasks_created,
                sum(tasks_completed) AS tasks_completed,
                sum(tasks_completed) / nullif(sum(tasks_created), 0) AS completion_rate,
                avg(productivity_score) AS productivity_score, count(*) AS days,
                max(date) AS last_date
            FROM {schema}.daily_analytics WHERE tasks_created + tasks_completed > 0
            GROUP BY user_id;
        CREATE UNIQUE INDEX user_task_stats_key ON {schema}.user_task_stats (user_id);
        COMMENT ON MATERIALIZED VIEW {schema}.user_task_stats IS
            'Tasks of each user over all days with any.';
        COMMENT ON COLUMN {schema}.user_task_stats.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_task_stats.tasks_created IS 'Tasks created.';
        COMMENT ON COLUMN {schema}.user_task_stats.tasks_completed IS 'Tasks completed.';
        COMMENT ON COLUMN {schema}.user_task_stats.completion_rate IS 'Completed by created.';
        COMMENT ON COLUMN {schema}.user_task_stats.productivity_score IS 'Mean of the days.';
        COMMENT ON COLUMN {schema}.user_task_stats.days IS 'Days with tasks.';
        COMMENT ON COLUMN {schema}.user_task_stats.last_date IS 'The last of them.';

        CREATE MATERIALIZED VIEW {schema}.user_priority_distribution AS
            SELECT user_id, item.key AS priority,
                coalesce((item.value->>'created')::bigint, 0) AS created,
                coalesce((item.value->>'completed')::bigint, 0) AS completed
            FROM {schema}.user_profiles, jsonb_each(tasks_by_priority) AS item;
        CREATE UNIQUE INDEX user_priority_distribution_key
            ON {schema}.user_priority_distribution (user_id, priority);
        COMMENT ON MATERIALIZED VIEW {schema}.user_priority_distribution IS
            'Tasks of each user by priority.';
        COMMENT ON COLUMN {schema}.user_priority_distribution.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_priority_distribution.priority IS 'As events say it.';
        COMMENT ON COLUMN {schema}.user_priority_distribution.created IS 'Tasks created.';
        COMMENT ON COLUMN {schema}.user_priority_distribution.completed IS 'Tasks completed.';

        CREATE MATERIALIZED VIEW {schema}.user_status_distribution AS
            SELECT user_id, item.status, item.updates
            FROM {schema}.user_profiles,
                LATERAL (VALUES ('todo', tasks_todo), ('in_progress', tasks_in_progress),
                    ('done', tasks_done)) AS item (status, updates)
            WHERE item.updates > 0;
        CREATE UNIQUE INDEX user_status_distribution_key
            ON {schema}.user_status_distribution (user_id, status);
        COMMENT ON MATERIALIZED VIEW {schema}.user_status_distribution IS
            'Updates of tasks of each user by the status they set.';
        COMMENT ON COLUMN {schema}.user_status_distribution.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_status_distribution.status IS 'todo, in_progress, done.';
        COMMENT ON COLUMN {schema}.user_status_distribution.updates IS 'task_update events.';

        CREATE MATERIALIZED VIEW {schema}.user_monthly_trends AS
            SELECT user_id, date_trunc('month', date)::date AS month,
                count(*) AS active_days, sum(events) AS events, sum(sessions) AS sessions,
                sum(minutes) AS minutes, sum(tasks_created) AS tasks_created,
                sum(tasks_completed) AS tasks_completed,
                avg(productivity_score) FILTER (WHERE tasks_created + tasks_completed > 0)
                    AS productivity_score
            FROM {schema}.daily_analytics GROUP BY user_id, month;
        CREATE UNIQUE INDEX user_monthly_trends_key
            ON {schema}.user_monthly_trends (user_id, month);
        COMMENT ON MATERIALIZED VIEW {schema}.user_monthly_trends IS
            'What each user did in each month.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.month IS 'First day of the month.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.active_days IS 'Days with an event.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.events IS 'Events.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.sessions IS 'Sessions that are over.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.minutes IS 'Their minutes.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.tasks_created IS 'Tasks created.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.tasks_completed IS 'Tasks completed.';
        COMMENT ON COLUMN {schema}.user_monthly_trends.productivity_score IS
            'Mean of the days with tasks.';
        """
    )


def downgrade() -> None:
    for view in VIEWS:
        execute(f"DROP MATERIALIZED VIEW {{schema}}.{view};")
    for table in ("user_links", "daily_analytics", *reversed(HASHED)):
        execute(f"DROP TABLE {{schema}}.{table};")
