import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueStore;

/** B2 on Kafka Streams: the topic is keyed by user already, so nothing is repartitioned. */
public final class Profile {
  record Row(long events, long sum, long lastTs, byte[] page) {
    static final Row EMPTY = new Row(0, 0, 0, new byte[0]);

    Row plus(long duration, long ts, Utf8 seen) {
      byte[] last = Arrays.copyOf(seen.getBytes(), seen.getByteLength());
      return new Row(events + 1, sum + duration, Math.max(lastTs, ts), last);
    }

    byte[] bytes() {
      ByteBuffer b = ByteBuffer.allocate(24 + page.length);
      return b.putLong(events).putLong(sum).putLong(lastTs).put(page).array();
    }

    static Row of(byte[] bytes) {
      ByteBuffer b = ByteBuffer.wrap(bytes);
      byte[] page = Arrays.copyOfRange(bytes, 24, bytes.length);
      return new Row(b.getLong(), b.getLong(), b.getLong(), page);
    }

    byte[] json() {
      String last = new String(page, StandardCharsets.UTF_8);
      String head = "{\"events\":" + events + ",\"sum\":" + sum + ",\"last_ts\":" + lastTs;
      return (head + ",\"page\":\"" + last + "\"}").getBytes(StandardCharsets.UTF_8);
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
        .groupByKey(Grouped.with(Serdes.ByteArray(), events.serde()))
        .aggregate(
            () -> Row.EMPTY,
            (key, event, row) -> add(events, event, row),
            Materialized.<byte[], Row, KeyValueStore<Bytes, byte[]>>as("profile")
                .withKeySerde(Serdes.ByteArray())
                .withValueSerde(rows)
                .withCachingEnabled())
        .toStream()
        .mapValues(Row::json)
        .to(System.getenv("OUT"), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
    Application.run(builder);
  }

  private static Row add(Events events, GenericRecord event, Row row) {
    Utf8 page = (Utf8) event.get(events.page);
    return row.plus(events.duration(event), (Long) event.get(events.ts), page);
  }
}
