package peer;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.function.Supplier;
import org.apache.avro.Schema;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Runs the join until it is told to end: {@code java peer.Main PROPERTIES}.
 *
 * <p>What begins with {@code streams.} goes to Kafka Streams as it is, the rest is read here. Says on standard output,
 * a line of JSON each, when it runs and what it restored.
 */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws IOException, InterruptedException {
        Properties given = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            given.load(reader);
        }
        Properties streamsProperties = new Properties();
        for (String name : given.stringPropertyNames()) {
            if (name.startsWith("streams.")) {
                streamsProperties.put(name.substring("streams.".length()), given.getProperty(name));
            }
        }
        if (given.getProperty("rocksdb").equals("tuned")) {
            streamsProperties.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, RocksOptions.class);
        }
        KafkaStreams streams = new KafkaStreams(topology(given), streamsProperties);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(
                exception -> {
                    exception.printStackTrace();
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
        streams.setStateListener(
                (now, before) -> {
                    say("{\"state\": \"%s\", \"at_ms\": %d}", now, System.currentTimeMillis());
                    if (now == KafkaStreams.State.ERROR) {
                        ended.countDown();
                    }
                });
        streams.setGlobalStateRestoreListener(new Restores());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
        ended.await();
        System.exit(1);
    }

    private static Topology topology(Properties given) throws IOException {
        StoreBuilder<KeyValueStore<byte[], byte[]>> store =
                Stores.keyValueStoreBuilder(
                        Stores.persistentKeyValueStore(Join.STORE), Serdes.ByteArray(), Serdes.ByteArray());
        store = store.withLoggingEnabled(Map.of());
        store = given.getProperty("caching").equals("on") ? store.withCachingEnabled() : store.withCachingDisabled();
        String commands = given.getProperty("commands");
        Supplier<Codec> codec = codec(given);
        Topology topology = new Topology();
        topology.addSource(
                "inputs", new ByteArrayDeserializer(), new ByteArrayDeserializer(), commands, given.getProperty("details"));
        topology.addProcessor("join", () -> new Join(commands, codec), "inputs");
        topology.addStateStore(store, "join");
        topology.addSink(
                "emails", given.getProperty("emails"), new ByteArraySerializer(), new ByteArraySerializer(), "join");
        return topology;
    }

    private static Supplier<Codec> codec(Properties given) throws IOException {
        int command = Integer.parseInt(given.getProperty("command.id"));
        int details = Integer.parseInt(given.getProperty("details.id"));
        int email = Integer.parseInt(given.getProperty("email.id"));
        if (given.getProperty("codec").equals("fast")) {
            return () -> new FastCodec(command, details, email);
        }
        Schema commandSchema = schema(given, "command.schema");
        Schema detailsSchema = schema(given, "details.schema");
        Schema emailSchema = schema(given, "email.schema");
        return () -> new GenericCodec(command, details, email, commandSchema, detailsSchema, emailSchema);
    }

    private static Schema schema(Properties given, String name) throws IOException {
        return new Schema.Parser().parse(Files.readString(Path.of(given.getProperty(name))));
    }

    private static synchronized void say(String format, Object... values) {
        System.out.println(String.format(Locale.ROOT, format, values));
        System.out.flush();
    }

    private static final class Restores implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            say(
                    "{\"restore\": \"start\", \"partition\": %d, \"records\": %d, \"at_ms\": %d}",
                    partition.partition(), to - from, System.currentTimeMillis());
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long offset, long count) {
            // Start and end are what counts.
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            say(
                    "{\"restore\": \"end\", \"partition\": %d, \"records\": %d, \"at_ms\": %d}",
                    partition.partition(), total, System.currentTimeMillis());
        }
    }
}
