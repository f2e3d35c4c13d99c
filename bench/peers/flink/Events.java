import java.io.IOException;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Reads events, every subtask with its own reader; the first one is announced. */
final class Events implements KafkaRecordDeserializationSchema<Event> {
  private static final AtomicBoolean started = new AtomicBoolean();
  private final String schema;
  private transient Reader reader;

  Events(String schema) {
    this.schema = schema;
  }

  @Override
  public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Event> out)
      throws IOException {
    if (reader == null) {
      reader = new Reader(new Schema.Parser().parse(schema));
      if (started.compareAndSet(false, true)) {
        System.out.println("FIRST");
      }
    }
    out.collect(reader.read(record.value()));
  }

  @Override
  public TypeInformation<Event> getProducedType() {
    return TypeInformation.of(Event.class);
  }

  private static final class Reader {
    private final GenericDatumReader<GenericRecord> reader;
    private final int user;
    private final int type;
    private final int page;
    private final int ts;
    private final int duration;
    private BinaryDecoder decoder;
    private GenericRecord record;

    Reader(Schema schema) {
      reader = new GenericDatumReader<>(schema);
      user = schema.getField("user_id").pos();
      type = schema.getField("event_type").pos();
      page = schema.getField("page").pos();
      ts = schema.getField("ts").pos();
      duration = schema.getField("duration_ms").pos();
    }

    Event read(byte[] bytes) throws IOException {
      decoder = DecoderFactory.get().binaryDecoder(bytes, 5, bytes.length - 5, decoder);
      record = reader.read(record, decoder);
      Event event = new Event();
      event.user = record.get(user).toString();
      event.type = record.get(type).toString();
      event.page = record.get(page).toString();
      event.ts = (Long) record.get(ts);
      Object ms = record.get(duration);
      event.duration = ms == null ? 0 : (Long) ms;
      return event;
    }
  }
}
