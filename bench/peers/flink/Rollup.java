import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/**
 * B1 on Flink. Watermarks are per partition, so nothing is late on a replay; a window is written
 * once, when it closes. The input is bounded, or the last windows never would.
 */
public final class Rollup {
  public static class Total {
    public long count;
    public long sum;
    public long max;
  }

  static final class Add implements AggregateFunction<Event, Total, Total> {
    @Override
    public Total createAccumulator() {
      return new Total();
    }

    @Override
    public Total add(Event event, Total total) {
      total.count++;
      total.sum += event.duration;
      total.max = Math.max(total.max, event.duration);
      return total;
    }

    @Override
    public Total getResult(Total total) {
      return total;
    }

    @Override
    public Total merge(Total one, Total other) {
      one.count += other.count;
      one.sum += other.sum;
      one.max = Math.max(one.max, other.max);
      return one;
    }
  }

  static final class Write extends ProcessWindowFunction<Total, Row, String, TimeWindow> {
    @Override
    public void process(String key, Context context, Iterable<Total> totals, Collector<Row> out) {
      Total t = totals.iterator().next();
      String json = "{\"count\":" + t.count + ",\"sum\":" + t.sum + ",\"max\":" + t.max + "}";
      out.collect(new Row(context.window().getStart() + "|" + key, json));
    }
  }

  public static void main(String[] args) throws Exception {
    Job job = new Job();
    WatermarkStrategy<Event> watermarks =
        WatermarkStrategy.<Event>forBoundedOutOfOrderness(Duration.ofMinutes(1))
            .withTimestampAssigner((event, before) -> event.ts);
    job.run(
        job.events(watermarks, true)
            .keyBy(event -> event.type + "|" + event.page, Types.STRING)
            .window(TumblingEventTimeWindows.of(Duration.ofMinutes(1)))
            .aggregate(new Add(), new Write()));
  }
}
