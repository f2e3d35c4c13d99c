import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.Consumed;

/** Reads events; the first one is announced. All stream threads share it. */
final class Events implements Deserializer<GenericRecord> {
  final int type;
  final int page;
  final int ts;
  private final int duration;
  private final ThreadLocal<GenericDatumReader<GenericRecord>> reader;
  private final ThreadLocal<BinaryDecoder> decoder = new ThreadLocal<>();
  private final AtomicBoolean started = new AtomicBoolean();

  Events() throws IOException {
    Schema schema = new Schema.Parser().parse(Files.readString(Path.of(System.getenv("SCHEMA"))));
    reader = ThreadLocal.withInitial(() -> new GenericDatumReader<>(schema));
    type = schema.getField("event_type").pos();
    page = schema.getField("page").pos();
    ts = schema.getField("ts").pos();
    duration = schema.getField("duration_ms").pos();
  }

  @Override
  public GenericRecord deserialize(String topic, byte[] bytes) {
    if (started.compareAndSet(false, true)) {
      System.out.println("FIRST");
    }
    try {
      decoder.set(DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoder.get()));
      return reader.get().read(null, decoder.get());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  Serde<GenericRecord> serde() {
    return Serdes.serdeFrom(
        (topic, record) -> {
          throw new IllegalStateException("events are only read");
        },
        this);
  }

  Consumed<byte[], GenericRecord> byEventTime() {
    return Consumed.with(Serdes.ByteArray(), serde())
        .withTimestampExtractor(
            (record, before) -> (Long) ((GenericRecord) record.value()).get(ts));
  }

  long duration(GenericRecord event) {
    Object ms = event.get(duration);
    return ms == null ? 0L : (Long) ms;
  }
}
