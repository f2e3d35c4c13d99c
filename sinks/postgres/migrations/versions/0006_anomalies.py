"""Anomalies, and who has taken notice of them."""

from streamgauge.sinks.postgres.revision import execute

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.anomalies (
            series text NOT NULL,
            detector text NOT NULL,
            started_at timestamptz NOT NULL,
            anomaly_id text NOT NULL,
            metric text,
            dimensions jsonb,
            user_id text,
            severity text NOT NULL,
            ended_at timestamptz,
            expected double precision,
            observed double precision,
            score double precision,
            points bigint,
            version integer NOT NULL,
            is_final boolean NOT NULL,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (series, detector, started_at)
        );
        CREATE INDEX anomalies_started_at ON {schema}.anomalies (started_at);
        CREATE INDEX anomalies_anomaly_id ON {schema}.anomalies (anomaly_id);
        COMMENT ON TABLE {schema}.anomalies IS
            'What was not as usual, from when to when: one row a flag.';
        COMMENT ON COLUMN {schema}.anomalies.series IS
            'Which series: the metric and its dimensions; of a user: user and their id.';
        COMMENT ON COLUMN {schema}.anomalies.detector IS
            'spike, change, shift, unrest, missing, threshold:ALERT; of users burst, bot, cap, '
            'impossible. What each asks: docs/anomalies.md.';
        COMMENT ON COLUMN {schema}.anomalies.started_at IS 'Event time from which it lasts.';
        COMMENT ON COLUMN {schema}.anomalies.anomaly_id IS
            'Short name of series, detector and start.';
        COMMENT ON COLUMN {schema}.anomalies.metric IS 'The metric; null for users.';
        COMMENT ON COLUMN {schema}.anomalies.dimensions IS 'Of the series; {} for the total.';
        COMMENT ON COLUMN {schema}.anomalies.user_id IS 'The user; null for metrics.';
        COMMENT ON COLUMN {schema}.anomalies.severity IS
            'yellow: look at it; red: wake somebody. The worst so far.';
        COMMENT ON COLUMN {schema}.anomalies.ended_at IS
            'Event time at which it cleared; null while it lasts.';
        COMMENT ON COLUMN {schema}.anomalies.expected IS
            'What the detector expected, or the limit.';
        COMMENT ON COLUMN {schema}.anomalies.observed IS 'What came.';
        COMMENT ON COLUMN {schema}.anomalies.score IS
            'Power of ten of weeks in which chance brings it about once; of limits: how many '
            'times the limit.';
        COMMENT ON COLUMN {schema}.anomalies.points IS
            'Minutes from its start to when it was told last.';
        COMMENT ON COLUMN {schema}.anomalies.version IS
            'How often it was told: opened, worse, cleared.';
        COMMENT ON COLUMN {schema}.anomalies.is_final IS 'It has cleared.';
        COMMENT ON COLUMN {schema}.anomalies.source_partition IS
            'Partition of the topic anomalies that the row came from.';
        COMMENT ON COLUMN {schema}.anomalies.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.anomalies.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.anomalies.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.anomaly_acks (
            anomaly_id text PRIMARY KEY,
            acked_at timestamptz NOT NULL DEFAULT now(),
            acked_by text NOT NULL,
            note text
        );
        COMMENT ON TABLE {schema}.anomaly_acks IS
            'Who has taken notice of an anomaly; written by the CLI, not by the stream.';
        COMMENT ON COLUMN {schema}.anomaly_acks.anomaly_id IS 'As in anomalies.';
        COMMENT ON COLUMN {schema}.anomaly_acks.acked_at IS 'When, by the clock.';
        COMMENT ON COLUMN {schema}.anomaly_acks.acked_by IS 'Who.';
        COMMENT ON COLUMN {schema}.anomaly_acks.note IS 'What they had to say.';
        """
    )


def downgrade() -> None:
    execute("DROP TABLE {schema}.anomaly_acks; DROP TABLE {schema}.anomalies;")
