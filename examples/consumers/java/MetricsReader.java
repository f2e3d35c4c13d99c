import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** What the topic `metrics` says now: the latest row of each key, one line each. */
public class MetricsReader {
    private final HttpClient http = HttpClient.newHttpClient();
    private final Map<Integer, Schema> theirs = new HashMap<>(); // schemas of writers, by id
    private final String registry;
    private final Schema ours;

    MetricsReader(String registry, Schema ours) {
        this.registry = registry;
        this.ours = ours;
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 4) {
            System.err.println("java MetricsReader.java BOOTSTRAP REGISTRY TOPIC SCHEMA.avsc");
            System.exit(2);
        }
        Schema ours = new Schema.Parser().parse(new File(args[3]));
        MetricsReader reader = new MetricsReader(args[1], ours);
        reader.read(args[0], args[2]).forEach((key, row) -> System.out.println(key + "\t" + row));
    }

    /** Every committed record, up to the end; the latest of a key replaces the ones before. */
    Map<String, GenericRecord> read(String bootstrap, String topic) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap,
            "isolation.level", "read_committed",
            "enable.auto.commit", false,
            "key.deserializer", StringDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class);
        Map<String, GenericRecord> rows = new TreeMap<>();
        try (KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(settings)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                .map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.value() == null) {
                        rows.remove(record.key());
                    } else {
                        rows.put(record.key(), decode(record.value()));
                    }
                }
            }
        }
        return rows;
    }

    private GenericRecord decode(byte[] value) throws Exception {
        int id = ByteBuffer.wrap(value, 1, 4).getInt();
        if (!theirs.containsKey(id)) {
            theirs.put(id, fetch(id));
        }
        var datum = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, null);
        return new GenericDatumReader<GenericRecord>(theirs.get(id), ours).read(null, datum);
    }

    private Schema fetch(int id) throws Exception {
        HttpRequest question = HttpRequest.newBuilder(URI.create(registry + "/schemas/ids/" + id)).build();
        String answer = http.send(question, BodyHandlers.ofString()).body();
        return new Schema.Parser().parse(new ObjectMapper().readTree(answer).get("schema").asText());
    }
}
