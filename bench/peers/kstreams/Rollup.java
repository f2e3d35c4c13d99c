import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/**
 * B1 on Kafka Streams, exactly once. The grace is a day: a replay at full speed skews the
 * partitions, and one stream time after the repartition would drop half of the events.
 * Settings by environment: GROUP, SOURCE, OUT, KAFKA, STATE, SCHEMA.
 */
public final class Rollup {
  private static final AtomicBoolean started = new AtomicBoolean();

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

  /** One Serde serves all stream threads, so reader and decoder are a thread's own. */
  private static final class Events implements Deserializer<GenericRecord> {
    private final ThreadLocal<GenericDatumReader<GenericRecord>> reader;
    private final ThreadLocal<BinaryDecoder> decoder = new ThreadLocal<>();

    Events(Schema schema) {
      reader = ThreadLocal.withInitial(() -> new GenericDatumReader<>(schema));
    }

    @Override
    public GenericRecord deserialize(String topic, byte[] bytes) {
      if (started.compareAndSet(false, true)) {
        System.out.println("FIRST");
      }
      try {
        decoder.set(
            DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoder.get()));
        return reader.get().read(null, decoder.get());
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }

  private static Properties settings() {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("GROUP"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("KAFKA"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    p.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("STATE"));
    p.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    p.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    return p;
  }

  public static void main(String[] args) throws IOException {
    Schema schema = new Schema.Parser().parse(Files.readString(Path.of(System.getenv("SCHEMA"))));
    int type = schema.getField("event_type").pos();
    int page = schema.getField("page").pos();
    int ts = schema.getField("ts").pos();
    int duration = schema.getField("duration_ms").pos();
    Serde<GenericRecord> events =
        Serdes.serdeFrom(
            (topic, record) -> {
              throw new IllegalStateException("events are only read");
            },
            new Events(schema));
    Serde<Row> rows =
        Serdes.serdeFrom(
            (topic, row) -> row == null ? null : row.bytes(),
            (topic, bytes) -> bytes == null ? null : Row.of(bytes));
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(
            System.getenv("SOURCE"),
            Consumed.with(Serdes.ByteArray(), events)
                .withTimestampExtractor(
                    (record, before) -> (Long) ((GenericRecord) record.value()).get(ts)))
        // Only key and duration cross the repartition topic; event time is its timestamp.
        .map(
            (key, event) -> {
              Object d = event.get(duration);
              return KeyValue.pair(event.get(type) + "|" + event.get(page), d == null ? 0L : (Long) d);
            })
        .groupByKey(Grouped.with("by", Serdes.String(), Serdes.Long()))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofDays(1)))
        .aggregate(
            () -> Row.EMPTY,
            (key, d, row) -> row.plus(d),
            Materialized.<String, Row, WindowStore<Bytes, byte[]>>as("rollup")
                .withKeySerde(Serdes.String())
                .withValueSerde(rows)
                .withRetention(Duration.ofDays(1).plusMinutes(1))
                .withCachingEnabled())
        .toStream()
        .map((key, row) -> KeyValue.pair(key.window().start() + "|" + key.key(), row.json()))
        .to(System.getenv("OUT"), Produced.with(Serdes.String(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings());
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
    streams.start();
  }
}
