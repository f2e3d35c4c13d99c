"""What is done about users by policy, and what was undone."""

from streamgauge.sinks.postgres.revision import execute

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.actions (
            action text NOT NULL,
            user_id text NOT NULL,
            anomaly_id text NOT NULL,
            detector text NOT NULL,
            severity text NOT NULL,
            rate double precision NOT NULL,
            started_at timestamptz NOT NULL,
            ended_at timestamptz,
            undone_at timestamptz,
            undone_by text,
            note text,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (action, user_id, anomaly_id)
        );
        CREATE INDEX actions_anomaly_id ON {schema}.actions (anomaly_id);
        COMMENT ON TABLE {schema}.actions IS
            'What is done about flags of users by policy: in force until ended or undone.';
        COMMENT ON COLUMN {schema}.actions.action IS
            'throttle: the collector lets in fewer events of the user.';
        COMMENT ON COLUMN {schema}.actions.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.actions.anomaly_id IS 'The flag, as in anomalies.';
        COMMENT ON COLUMN {schema}.actions.detector IS 'Of the flag.';
        COMMENT ON COLUMN {schema}.actions.severity IS 'Of the flag: yellow or red.';
        COMMENT ON COLUMN {schema}.actions.rate IS 'Events a minute that are let in; 0: none.';
        COMMENT ON COLUMN {schema}.actions.started_at IS 'Event time at which the flag began.';
        COMMENT ON COLUMN {schema}.actions.ended_at IS
            'Event time at which the flag cleared; null while it lasts.';
        COMMENT ON COLUMN {schema}.actions.undone_at IS
            'When somebody undid it, by their clock; null while it is in force.';
        COMMENT ON COLUMN {schema}.actions.undone_by IS 'Who undid it.';
        COMMENT ON COLUMN {schema}.actions.note IS 'What they had to say.';
        COMMENT ON COLUMN {schema}.actions.source_partition IS
            'Partition of the topic actions that the row came from.';
        COMMENT ON COLUMN {schema}.actions.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.actions.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.actions.updated_at IS 'When the row was last written.';
        """
    )


def downgrade() -> None:
    execute("DROP TABLE {schema}.actions;")
