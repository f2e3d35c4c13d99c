import java.nio.charset.StandardCharsets;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A row to write, its value as JSON. */
public class Row {
  public String key;
  public String value;

  public Row() {}

  Row(String key, String value) {
    this.key = key;
    this.value = value;
  }

  static final class Writer implements KafkaRecordSerializationSchema<Row> {
    private final String topic;

    Writer(String topic) {
      this.topic = topic;
    }

    @Override
    public ProducerRecord<byte[], byte[]> serialize(Row row, KafkaSinkContext context, Long time) {
      byte[] key = row.key.getBytes(StandardCharsets.UTF_8);
      return new ProducerRecord<>(topic, key, row.value.getBytes(StandardCharsets.UTF_8));
    }
  }
}
