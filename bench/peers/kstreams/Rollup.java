import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/**
 * B1 on Kafka Streams. The grace is a day: a replay at full speed skews the partitions, and one
 * stream time after the repartition would drop half of the events.
 */
public final class Rollup {
  record Row(long count, long sum, long max) {
    static final Row EMPTY = new Row(0, 0, 0);

    Row plus(long duration) {
      return new Row(count + 1, sum + duration, Math.max(max, duration));
    }

    byte[] bytes() {
      return ByteBuffer.allocate(24).putLong(count).putLong(sum).putLong(max).array();
    }

    static Row of(byte[] bytes) {
      ByteBuffer b = ByteBuffer.wrap(bytes);
      return new Row(b.getLong(), b.getLong(), b.getLong());
    }

    byte[] json() {
      return ("{\"count\":" + count + ",\"sum\":" + sum + ",\"max\":" + max + "}")
          .getBytes(StandardCharsets.UTF_8);
    }
  }

  public static void main(String[] args) throws IOException {
    Events events = new Events();
    Serde<Row> rows =
        Serdes.serdeFrom(
            (topic, row) -> row == null ? null : row.bytes(),
            (topic, bytes) -> bytes == null ? null : Row.of(bytes));
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(System.getenv("SOURCE"), events.byEventTime())
        // Only key and duration cross the repartition topic; event time is its timestamp.
        .map(
            (key, event) ->
                KeyValue.pair(
                    event.get(events.type) + "|" + event.get(events.page), events.duration(event)))
        .groupByKey(Grouped.with("by", Serdes.String(), Serdes.Long()))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofDays(1)))
        .aggregate(
            () -> Row.EMPTY,
            (key, duration, row) -> row.plus(duration),
            Materialized.<String, Row, WindowStore<Bytes, byte[]>>as("rollup")
                .withKeySerde(Serdes.String())
                .withValueSerde(rows)
                .withRetention(Duration.ofDays(1).plusMinutes(1))
                .withCachingEnabled())
        .toStream()
        .map((key, row) -> KeyValue.pair(key.window().start() + "|" + key.key(), row.json()))
        .to(System.getenv("OUT"), Produced.with(Serdes.String(), Serdes.ByteArray()));
    Application.run(builder);
  }
}
