"""Experiments: who was exposed to what, and the figures with their history."""

from streamgauge.sinks.postgres.revision import execute

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    execute(
        """
        CREATE TABLE {schema}.exposures (
            experiment text NOT NULL,
            user_id text NOT NULL,
            variant text,
            exposed_at timestamptz,
            variants jsonb,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (experiment, user_id)
        );
        CREATE INDEX exposures_user_id ON {schema}.exposures (user_id);
        COMMENT ON TABLE {schema}.exposures IS
            'The first exposure of each user to each experiment.';
        COMMENT ON COLUMN {schema}.exposures.experiment IS
            'Name of the experiment: experiment_id of the events.';
        COMMENT ON COLUMN {schema}.exposures.user_id IS 'The user, or the anonymous_id.';
        COMMENT ON COLUMN {schema}.exposures.variant IS
            'The variant; null for who was seen in several, and is left out of results.';
        COMMENT ON COLUMN {schema}.exposures.exposed_at IS 'The first exposure, by event time.';
        COMMENT ON COLUMN {schema}.exposures.variants IS
            'Each variant that was seen, with the time of the first exposure, in ms.';
        COMMENT ON COLUMN {schema}.exposures.source_partition IS
            'Partition of the topic exposures that the row came from.';
        COMMENT ON COLUMN {schema}.exposures.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.exposures.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.exposures.updated_at IS 'When the row was last written.';

        CREATE TABLE {schema}.experiment_results (
            experiment text NOT NULL,
            metric text NOT NULL,
            variant text NOT NULL,
            as_of timestamptz NOT NULL,
            state text,
            role text,
            aggregate text,
            control text,
            is_control boolean,
            users bigint,
            mean double precision,
            lift_absolute double precision,
            lift_relative double precision,
            ci_fixed_low double precision,
            ci_fixed_high double precision,
            ci_sequential_low double precision,
            ci_sequential_high double precision,
            ci_relative_sequential_low double precision,
            ci_relative_sequential_high double precision,
            p_fixed double precision,
            p_sequential double precision,
            p_adjusted double precision,
            cuped_lift_absolute double precision,
            cuped_ci_fixed_low double precision,
            cuped_ci_fixed_high double precision,
            cuped_ci_sequential_low double precision,
            cuped_ci_sequential_high double precision,
            cuped_p_sequential double precision,
            srm_p double precision,
            users_excluded bigint,
            verdict text,
            power double precision,
            users_to_go bigint,
            days_to_go bigint,
            analysis jsonb,
            source_partition integer NOT NULL,
            source_offset bigint NOT NULL,
            source_generation integer NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (experiment, metric, variant, as_of)
        ) PARTITION BY RANGE (as_of);
        COMMENT ON TABLE {schema}.experiment_results IS
            'Figures of experiments as they were at each look: history.';
        COMMENT ON COLUMN {schema}.experiment_results.experiment IS
            'Name of the experiment, as defined.';
        COMMENT ON COLUMN {schema}.experiment_results.metric IS 'Name of the metric, as defined.';
        COMMENT ON COLUMN {schema}.experiment_results.variant IS 'Name of the variant.';
        COMMENT ON COLUMN {schema}.experiment_results.as_of IS
            'Event time up to which the figures are: the furthest watermark.';
        COMMENT ON COLUMN {schema}.experiment_results.state IS 'running or stopped.';
        COMMENT ON COLUMN {schema}.experiment_results.role IS 'primary, secondary or guardrail.';
        COMMENT ON COLUMN {schema}.experiment_results.aggregate IS
            'mean, proportion or ratio, of users.';
        COMMENT ON COLUMN {schema}.experiment_results.control IS
            'The variant that all others are compared with.';
        COMMENT ON COLUMN {schema}.experiment_results.is_control IS
            'Whether this is that variant; its row has no lift.';
        COMMENT ON COLUMN {schema}.experiment_results.users IS
            'Users exposed to this variant alone.';
        COMMENT ON COLUMN {schema}.experiment_results.mean IS
            'Mean, share or ratio of means of these users.';
        COMMENT ON COLUMN {schema}.experiment_results.lift_absolute IS
            'Difference of the mean from the control''s.';
        COMMENT ON COLUMN {schema}.experiment_results.lift_relative IS
            'The same as a share of the control''s mean.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_fixed_low IS
            'Interval of lift_absolute for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_fixed_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_sequential_low IS
            'Interval of lift_absolute that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_sequential_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_relative_sequential_low IS
            'Interval of lift_relative that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_results.ci_relative_sequential_high IS
            'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_results.p_fixed IS
            'p value for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_results.p_sequential IS
            'p value that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_results.p_adjusted IS
            'p_sequential, corrected over all variants and metrics of the role.';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_lift_absolute IS
            'lift_absolute adjusted by what users did before (CUPED).';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_ci_fixed_low IS
            'Its interval for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_ci_fixed_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_ci_sequential_low IS
            'Its interval that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_ci_sequential_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_results.cuped_p_sequential IS
            'Its p value that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_results.srm_p IS
            'Sample ratio mismatch: below 0.001 the split is not the planned one.';
        COMMENT ON COLUMN {schema}.experiment_results.users_excluded IS
            'Users of the experiment who saw several variants: left out.';
        COMMENT ON COLUMN {schema}.experiment_results.verdict IS
            'Of a guardrail: ok, breached or unclear.';
        COMMENT ON COLUMN {schema}.experiment_results.power IS
            'Chance to have found the least effect worth finding by now, at any look.';
        COMMENT ON COLUMN {schema}.experiment_results.users_to_go IS 'Users still needed for it.';
        COMMENT ON COLUMN {schema}.experiment_results.days_to_go IS 'Days still needed for it.';
        COMMENT ON COLUMN {schema}.experiment_results.analysis IS 'Everything, with notes.';
        COMMENT ON COLUMN {schema}.experiment_results.source_partition IS
            'Partition of the topic experiment-results that the row came from.';
        COMMENT ON COLUMN {schema}.experiment_results.source_offset IS
            'Offset that the row came from: rows never go back to an older one.';
        COMMENT ON COLUMN {schema}.experiment_results.source_generation IS
            'Generation of the topic, as in sink_offsets.';
        COMMENT ON COLUMN {schema}.experiment_results.updated_at IS
            'When the row was last written.';

        CREATE VIEW {schema}.experiment_latest AS
            SELECT DISTINCT ON (experiment, metric, variant)
                experiment, metric, variant, as_of, state, role, aggregate,
                control, is_control, users, mean, lift_absolute,
                lift_relative, ci_fixed_low, ci_fixed_high, ci_sequential_low,
                ci_sequential_high, ci_relative_sequential_low,
                ci_relative_sequential_high, p_fixed, p_sequential,
                p_adjusted, cuped_lift_absolute, cuped_ci_fixed_low,
                cuped_ci_fixed_high, cuped_ci_sequential_low,
                cuped_ci_sequential_high, cuped_p_sequential, srm_p,
                users_excluded, verdict, power, users_to_go, days_to_go,
                analysis
            FROM {schema}.experiment_results
            ORDER BY experiment, metric, variant, as_of DESC;
        COMMENT ON VIEW {schema}.experiment_latest IS
            'The last look at each experiment, metric and variant.';
        COMMENT ON COLUMN {schema}.experiment_latest.experiment IS
            'Name of the experiment, as defined.';
        COMMENT ON COLUMN {schema}.experiment_latest.metric IS 'Name of the metric, as defined.';
        COMMENT ON COLUMN {schema}.experiment_latest.variant IS 'Name of the variant.';
        COMMENT ON COLUMN {schema}.experiment_latest.as_of IS
            'Event time up to which the figures are: the furthest watermark.';
        COMMENT ON COLUMN {schema}.experiment_latest.state IS 'running or stopped.';
        COMMENT ON COLUMN {schema}.experiment_latest.role IS 'primary, secondary or guardrail.';
        COMMENT ON COLUMN {schema}.experiment_latest.aggregate IS
            'mean, proportion or ratio, of users.';
        COMMENT ON COLUMN {schema}.experiment_latest.control IS
            'The variant that all others are compared with.';
        COMMENT ON COLUMN {schema}.experiment_latest.is_control IS
            'Whether this is that variant; its row has no lift.';
        COMMENT ON COLUMN {schema}.experiment_latest.users IS
            'Users exposed to this variant alone.';
        COMMENT ON COLUMN {schema}.experiment_latest.mean IS
            'Mean, share or ratio of means of these users.';
        COMMENT ON COLUMN {schema}.experiment_latest.lift_absolute IS
            'Difference of the mean from the control''s.';
        COMMENT ON COLUMN {schema}.experiment_latest.lift_relative IS
            'The same as a share of the control''s mean.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_fixed_low IS
            'Interval of lift_absolute for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_fixed_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_sequential_low IS
            'Interval of lift_absolute that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_sequential_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_relative_sequential_low IS
            'Interval of lift_relative that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_latest.ci_relative_sequential_high IS
            'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_latest.p_fixed IS 'p value for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_latest.p_sequential IS
            'p value that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_latest.p_adjusted IS
            'p_sequential, corrected over all variants and metrics of the role.';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_lift_absolute IS
            'lift_absolute adjusted by what users did before (CUPED).';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_ci_fixed_low IS
            'Its interval for one look at the end.';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_ci_fixed_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_ci_sequential_low IS
            'Its interval that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_ci_sequential_high IS 'Its upper end.';
        COMMENT ON COLUMN {schema}.experiment_latest.cuped_p_sequential IS
            'Its p value that holds at every look.';
        COMMENT ON COLUMN {schema}.experiment_latest.srm_p IS
            'Sample ratio mismatch: below 0.001 the split is not the planned one.';
        COMMENT ON COLUMN {schema}.experiment_latest.users_excluded IS
            'Users of the experiment who saw several variants: left out.';
        COMMENT ON COLUMN {schema}.experiment_latest.verdict IS
            'Of a guardrail: ok, breached or unclear.';
        COMMENT ON COLUMN {schema}.experiment_latest.power IS
            'Chance to have found the least effect worth finding by now, at any look.';
        COMMENT ON COLUMN {schema}.experiment_latest.users_to_go IS 'Users still needed for it.';
        COMMENT ON COLUMN {schema}.experiment_latest.days_to_go IS 'Days still needed for it.';
        COMMENT ON COLUMN {schema}.experiment_latest.analysis IS 'Everything, with notes.';
        """
    )


def downgrade() -> None:
    execute(
        """
        DROP VIEW {schema}.experiment_latest;
        DROP TABLE {schema}.experiment_results;
        DROP TABLE {schema}.exposures;
        """
    )
