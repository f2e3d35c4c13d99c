"""The first tables: metrics, dead letters, late events, performance logs, positions."""

from streamgauge.sinks.postgres.revision import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute(
        """
        COMMENT ON TABLE {schema}.alembic_version IS 'Which migration these tables are at.';
        COMMENT ON COLUMN {schema}.alembic_version.version_num IS 'Revision of the migration.';

        CREATE TABLE {schema}.sink_offsets (
            topic text NOT NULL,
            partition integer NOT NULL,
            epoch bigint NOT NULL,
            generation integer NOT NULL,
            next_offset bigint,
            cluster_id text NOT NULL,
            topic_id text NOT NULL,
            owner text NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (topic, partition)
        ) WITH (fillfactor = 50);
        COMMENT ON TABLE {schema}.sink_offsets IS
            'How far each partition has been written; moves in one transaction with the rows.';
        COMMENT ON COLUMN {schema}.sink_offsets.topic IS 'Topic, without the namespace.';
        COMMENT ON COLUMN {schema}.sink_offsets.partition IS 'Partition of the topic.';
        COMMENT ON COLUMN {schema}.sink_offsets.epoch IS
            'Grows with every owner: a write under an older epoch is refused.';
        COMMENT ON COLUMN {schema}.sink_offsets.generation IS
            'Grows when the topic was made anew and its offsets began at 0 again.';
        COMMENT ON COLUMN {schema}.sink_offsets.next_offset IS
            'Every record below it is in the tables; null before the first.';
        COMMENT ON COLUMN {schema}.sink_offsets.cluster_id IS 'Kafka cluster of the offsets.';
        COMMENT ON COLUMN {schema}.sink_offsets.topic_id IS
            'Id of the topic that the offsets belong to; empty where the broker has none.';
        COMMENT ON COLUMN {schema}.sink_offsets.owner IS 'Instance that writes the partition.';
        COMMENT ON COLUMN {schema}.sink_offsets.updated_at IS
            'Last write, or proof that the partition is still owned.';

        CREATE TABLE {schema}.metrics (
            window_start timestamptz NOT NULL,
            window_size text NOT NULL,
            metric text NOT NULL,
            dimensions jsonb NOT NULL,
            version text NOT NULL,
            value double precision,
            numerator double precision,
            denominator double precision,
            users bigint,
            is_final boolean,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (metric, window_size, window_start, dimensions, version)
        ) PARTITION BY RANGE (window_start);
        COMMENT ON TABLE {schema}.metrics IS
            'Metrics by window and dimensions; the newest state of each, one day a partition.';
        COMMENT ON COLUMN {schema}.metrics.window_start IS
            'Start of the window, inclusive, in event time.';
        COMMENT ON COLUMN {schema}.metrics.window_size IS 'Length of the window: 1m, 1h or 1d.';
        COMMENT ON COLUMN {schema}.metrics.metric IS 'Name of the metric, as defined.';
        COMMENT ON COLUMN {schema}.metrics.dimensions IS
            'Values of the dimensions by name; {} for the total.';
        COMMENT ON COLUMN {schema}.metrics.version IS
            'Hash of the definitions: a changed one starts a new series.';
        COMMENT ON COLUMN {schema}.metrics.value IS 'The value: numerator / denominator.';
        COMMENT ON COLUMN {schema}.metrics.numerator IS
            'Sum, count or the value itself; add it up to combine rows of counts, sums, means.';
        COMMENT ON COLUMN {schema}.metrics.denominator IS
            'Number of observations of a mean, the other part of a ratio, 1 otherwise.';
        COMMENT ON COLUMN {schema}.metrics.users IS
            'Distinct users in the row; exact in minutes, within 2 percent in hours and days.';
        COMMENT ON COLUMN {schema}.metrics.is_final IS
            'Whether the window has closed; until then the value is provisional.';
        COMMENT ON COLUMN {schema}.metrics.source_partition IS
            'Partition of the topic metrics that the row came from.';
        COMMENT ON COLUMN {schema}.metrics.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.metrics.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.metrics.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.dead_letters (
            topic text NOT NULL,
            partition integer NOT NULL,
            "offset" bigint NOT NULL,
            schema_id bigint,
            reason text,
            detail text,
            payload bytea,
            key bytea,
            failed_at timestamptz,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (topic, partition, "offset")
        );
        CREATE INDEX dead_letters_failed_at ON {schema}.dead_letters (failed_at);
        COMMENT ON TABLE {schema}.dead_letters IS
            'Records that could not be used, with the reason and their original bytes.';
        COMMENT ON COLUMN {schema}.dead_letters.topic IS 'Topic of the record.';
        COMMENT ON COLUMN {schema}.dead_letters.partition IS 'Partition of the record.';
        COMMENT ON COLUMN {schema}.dead_letters."offset" IS 'Offset of the record.';
        COMMENT ON COLUMN {schema}.dead_letters.schema_id IS
            'Schema that its header names, where it has one.';
        COMMENT ON COLUMN {schema}.dead_letters.reason IS
            'Stable code: bad_header, unknown_schema, undecodable, invalid, future …';
        COMMENT ON COLUMN {schema}.dead_letters.detail IS 'What exactly was wrong.';
        COMMENT ON COLUMN {schema}.dead_letters.payload IS 'The bytes as they came.';
        COMMENT ON COLUMN {schema}.dead_letters.key IS 'The key as it came.';
        COMMENT ON COLUMN {schema}.dead_letters.failed_at IS
            'When the log took the record in (not when it was read).';
        COMMENT ON COLUMN {schema}.dead_letters.source_partition IS
            'Partition of the topic dead-letters that the row came from.';
        COMMENT ON COLUMN {schema}.dead_letters.source_offset IS
            'Offset in the topic dead-letters.';
        COMMENT ON COLUMN {schema}.dead_letters.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.dead_letters.updated_at IS 'When the row was written.';

        CREATE TABLE {schema}.late_events (
            topic text NOT NULL,
            partition integer NOT NULL,
            "offset" bigint NOT NULL,
            event_id text,
            event_type text,
            user_id text,
            timestamp timestamptz,
            watermark timestamptz,
            schema_id bigint,
            payload bytea,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (topic, partition, "offset")
        );
        CREATE INDEX late_events_timestamp ON {schema}.late_events (timestamp);
        COMMENT ON TABLE {schema}.late_events IS
            'Events that came after their window had closed; in no metric.';
        COMMENT ON COLUMN {schema}.late_events.topic IS 'Topic of the event.';
        COMMENT ON COLUMN {schema}.late_events.partition IS 'Partition of the event.';
        COMMENT ON COLUMN {schema}.late_events."offset" IS 'Offset of the event.';
        COMMENT ON COLUMN {schema}.late_events.event_id IS 'Id of the event.';
        COMMENT ON COLUMN {schema}.late_events.event_type IS 'Type of the event.';
        COMMENT ON COLUMN {schema}.late_events.user_id IS 'User of the event, where known.';
        COMMENT ON COLUMN {schema}.late_events.timestamp IS 'When it happened.';
        COMMENT ON COLUMN {schema}.late_events.watermark IS
            'Event time that its partition had reached when it came.';
        COMMENT ON COLUMN {schema}.late_events.schema_id IS 'Schema of the payload.';
        COMMENT ON COLUMN {schema}.late_events.payload IS 'The bytes as they came.';
        COMMENT ON COLUMN {schema}.late_events.source_partition IS
            'Partition of the topic late-events that the row came from.';
        COMMENT ON COLUMN {schema}.late_events.source_offset IS 'Offset in the topic late-events.';
        COMMENT ON COLUMN {schema}.late_events.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.late_events.updated_at IS 'When the row was written.';

        CREATE TABLE {schema}.performance_logs (
            created_at timestamptz NOT NULL,
            event_id text NOT NULL,
            method_name text,
            duration_ms double precision,
            user_id text,
            response_size_bytes bigint,
            cache_hit boolean,
            error_type text,
            context jsonb,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            PRIMARY KEY (created_at, event_id)
        ) PARTITION BY RANGE (created_at);
        CREATE INDEX performance_logs_method_name_created_at
            ON {schema}.performance_logs (method_name, created_at);
        CREATE INDEX performance_logs_user_id_created_at
            ON {schema}.performance_logs (user_id, created_at) WHERE user_id IS NOT NULL;
        COMMENT ON TABLE {schema}.performance_logs IS
            'Calls to the services behind the product, from request and feed_generated events; '
            'one month a partition.';
        COMMENT ON COLUMN {schema}.performance_logs.created_at IS 'When the call was made.';
        COMMENT ON COLUMN {schema}.performance_logs.event_id IS
            'Id of the event: the same event sent twice is one row.';
        COMMENT ON COLUMN {schema}.performance_logs.method_name IS
            'What was called; feed_generated for the making of a feed.';
        COMMENT ON COLUMN {schema}.performance_logs.duration_ms IS 'How long it took.';
        COMMENT ON COLUMN {schema}.performance_logs.user_id IS
            'Who called; null without consent to analytics.';
        COMMENT ON COLUMN {schema}.performance_logs.response_size_bytes IS 'Bytes of the answer.';
        COMMENT ON COLUMN {schema}.performance_logs.cache_hit IS 'Whether a cache answered.';
        COMMENT ON COLUMN {schema}.performance_logs.error_type IS 'Kind of error; null if none.';
        COMMENT ON COLUMN {schema}.performance_logs.context IS
            'Everything else the event says: route, status, mix of the feed, own properties.';
        COMMENT ON COLUMN {schema}.performance_logs.source_partition IS
            'Partition of the topic events that the row came from.';
        COMMENT ON COLUMN {schema}.performance_logs.source_offset IS
            'Offset in the topic events.';
        COMMENT ON COLUMN {schema}.performance_logs.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DROP TABLE {schema}.performance_logs;
        DROP TABLE {schema}.late_events;
        DROP TABLE {schema}.dead_letters;
        DROP TABLE {schema}.metrics;
        DROP TABLE {schema}.sink_offsets;
        """
    )
