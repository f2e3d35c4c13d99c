import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * B2 on Flink. EMIT says when a user is written: at every `event`, or at most once a `second`, by a
 * timer.
 */
public final class Profile {
  public static class Total {
    public long events;
    public long sum;
    public long lastTs;
    public String page;
    public boolean waits; // for its timer

    void add(Event event) {
      events++;
      sum += event.duration;
      lastTs = Math.max(lastTs, event.ts);
      page = event.page;
    }

    Row row(String user) {
      String head = "{\"events\":" + events + ",\"sum\":" + sum + ",\"last_ts\":" + lastTs;
      return new Row(user, head + ",\"page\":\"" + page + "\"}");
    }
  }

  static final class Fold extends KeyedProcessFunction<String, Event, Row> {
    private final boolean everyEvent;
    private transient ValueState<Total> state;

    Fold(boolean everyEvent) {
      this.everyEvent = everyEvent;
    }

    @Override
    public void open(OpenContext context) {
      state = getRuntimeContext().getState(new ValueStateDescriptor<>("total", Total.class));
    }

    @Override
    public void processElement(Event event, Context context, Collector<Row> out) throws Exception {
      Total total = state.value();
      if (total == null) {
        total = new Total();
      }
      total.add(event);
      if (everyEvent) {
        out.collect(total.row(event.user));
      } else if (!total.waits) {
        total.waits = true;
        long now = context.timerService().currentProcessingTime();
        context.timerService().registerProcessingTimeTimer((now / 1000 + 1) * 1000);
      }
      state.update(total);
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Row> out) throws Exception {
      Total total = state.value();
      total.waits = false;
      state.update(total);
      out.collect(total.row(context.getCurrentKey()));
    }
  }

  public static void main(String[] args) throws Exception {
    Job job = new Job();
    boolean everyEvent = System.getenv("EMIT").equals("event");
    job.run(
        job.events(WatermarkStrategy.noWatermarks(), false)
            .keyBy(event -> event.user, Types.STRING)
            .process(new Fold(everyEvent)));
  }
}
