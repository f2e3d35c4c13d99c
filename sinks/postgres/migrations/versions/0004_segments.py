"""Segments: who was in which, from when to when and why; how many at each hour."""

from streamgauge.sinks.postgres.revision import execute

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.user_segments (
            user_id text NOT NULL,
            segment text NOT NULL,
            entered_at timestamptz NOT NULL,
            left_at timestamptz,
            reason_in jsonb,
            reason_out jsonb,
            rule_version text,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, segment, entered_at)
        );
        CREATE INDEX user_segments_members
            ON {schema}.user_segments (segment, entered_at) WHERE left_at IS NULL;
        CREATE INDEX user_segments_moved
            ON {schema}.user_segments ((greatest(entered_at, left_at)));
        COMMENT ON TABLE {schema}.user_segments IS
            'Who was in which segment, from when to when and why: one row a stay.';
        COMMENT ON COLUMN {schema}.user_segments.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.user_segments.segment IS 'Name of the segment, as defined.';
        COMMENT ON COLUMN {schema}.user_segments.entered_at IS
            'Start of the stay, inclusive: the minute of event time at which the rule held.';
        COMMENT ON COLUMN {schema}.user_segments.left_at IS
            'End of the stay, exclusive; null while the user is in the segment.';
        COMMENT ON COLUMN {schema}.user_segments.reason_in IS
            'Values of the fields in the rule on entering; change: the rules were changed.';
        COMMENT ON COLUMN {schema}.user_segments.reason_out IS 'The same on leaving.';
        COMMENT ON COLUMN {schema}.user_segments.rule_version IS
            'Hash of the conditions by which the user last moved.';
        COMMENT ON COLUMN {schema}.user_segments.source_partition IS
            'Partition of the topic user-segments that the row came from.';
        COMMENT ON COLUMN {schema}.user_segments.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.user_segments.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.user_segments.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.segment_counts (
            segment text NOT NULL,
            at timestamptz NOT NULL,
            members bigint,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (segment, at, source_partition)
        );
        COMMENT ON TABLE {schema}.segment_counts IS
            'Members of each segment at full hours, by source partition: add them up, or read '
            'segment_sizes.';
        COMMENT ON COLUMN {schema}.segment_counts.segment IS 'Name of the segment.';
        COMMENT ON COLUMN {schema}.segment_counts.at IS 'The full hour, in event time.';
        COMMENT ON COLUMN {schema}.segment_counts.members IS
            'How many of the partition''s users are in the segment then.';
        COMMENT ON COLUMN {schema}.segment_counts.source_partition IS
            'Source partition whose users are counted; of the topic segment-counts as well.';
        COMMENT ON COLUMN {schema}.segment_counts.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.segment_counts.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.segment_counts.updated_at IS 'When the row was last written.';

        CREATE VIEW {schema}.segment_members AS
            SELECT segment, user_id, entered_at, reason_in, rule_version
            FROM {schema}.user_segments WHERE left_at IS NULL;
        COMMENT ON VIEW {schema}.segment_members IS 'Who is in which segment now, since when, why.';
        COMMENT ON COLUMN {schema}.segment_members.segment IS 'Name of the segment.';
        COMMENT ON COLUMN {schema}.segment_members.user_id IS 'The user.';
        COMMENT ON COLUMN {schema}.segment_members.entered_at IS 'Since when.';
        COMMENT ON COLUMN {schema}.segment_members.reason_in IS 'Why: values of the fields.';
        COMMENT ON COLUMN {schema}.segment_members.rule_version IS 'Hash of the conditions.';

        CREATE VIEW {schema}.segment_sizes AS
            SELECT segment, at, sum(members)::bigint AS members, count(*) AS partitions
            FROM {schema}.segment_counts GROUP BY segment, at;
        COMMENT ON VIEW {schema}.segment_sizes IS
            'Members of each segment at full hours, over all source partitions.';
        COMMENT ON COLUMN {schema}.segment_sizes.segment IS 'Name of the segment.';
        COMMENT ON COLUMN {schema}.segment_sizes.at IS 'The full hour, in event time.';
        COMMENT ON COLUMN {schema}.segment_sizes.members IS 'How many are in it.';
        COMMENT ON COLUMN {schema}.segment_sizes.partitions IS
            'How many source partitions have reached that hour: the number is whole with all.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DROP VIEW {schema}.segment_sizes;
        DROP VIEW {schema}.segment_members;
        DROP TABLE {schema}.segment_counts;
        DROP TABLE {schema}.user_segments;
        """
    )
