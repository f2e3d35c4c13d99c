import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * A local cluster of two slots between SOURCE and OUT, exactly once, a checkpoint every second.
 * Settings by environment: GROUP, SOURCE, OUT, KAFKA, STATE, SCHEMA.
 */
final class Job {
  private static final int SLOTS = 2;
  private final StreamExecutionEnvironment environment;

  Job() {
    Configuration c = new Configuration();
    c.set(StateBackendOptions.STATE_BACKEND, "hashmap");
    c.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
    String folder = Path.of(System.getenv("STATE")).toAbsolutePath().toUri().toString();
    c.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, folder);
    c.set(TaskManagerOptions.NUM_TASK_SLOTS, SLOTS);
    environment = StreamExecutionEnvironment.createLocalEnvironment(SLOTS, c);
    environment.enableCheckpointing(1000, CheckpointingMode.EXACTLY_ONCE);
    environment.getConfig().enableObjectReuse();
  }

  /** The events; those of a bounded job end with the topic's present end. */
  DataStream<Event> events(WatermarkStrategy<Event> watermarks, boolean bounded)
      throws IOException {
    KafkaSourceBuilder<Event> source =
        KafkaSource.<Event>builder()
            .setBootstrapServers(System.getenv("KAFKA"))
            .setTopics(System.getenv("SOURCE"))
            .setGroupId(System.getenv("GROUP"))
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setDeserializer(new Events(Files.readString(Path.of(System.getenv("SCHEMA")))))
            .setProperty("commit.offsets.on.checkpoint", "true");
    if (bounded) {
      source.setBounded(OffsetsInitializer.latest());
    }
    return environment.fromSource(source.build(), watermarks, "events");
  }

  /** Writes the rows until told to stop; a job that ends by itself says DONE. */
  void run(DataStream<Row> rows) throws Exception {
    rows.sinkTo(
        KafkaSink.<Row>builder()
            .setBootstrapServers(System.getenv("KAFKA"))
            .setRecordSerializer(new Row.Writer(System.getenv("OUT")))
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(System.getenv("GROUP"))
            .setProperty("transaction.timeout.ms", "600000")
            .setProperty("compression.type", "lz4")
            .build());
    environment.execute();
    System.out.println("DONE");
    new CountDownLatch(1).await(); // whoever measures us reads our CPU first
  }
}
