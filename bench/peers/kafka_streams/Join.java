package peer;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.function.Supplier;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/** One e-mail a command, as soon as both the command and its order's details are there. */
final class Join implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STORE = "orders";

    private static final byte[] SPEC = ascii("1.0");
    private static final byte[] SOURCE = ascii("/rejoinder/process-manager");
    private static final byte[] TYPE = ascii("communications.SendEmail");
    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'").withZone(ZoneOffset.UTC);

    private final String commands;
    private final Codec codec;
    private final EmailIds ids = new EmailIds();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> store;
    private long timeMs;
    private byte[] time;

    Join(String commands, Supplier<Codec> codec) {
        this.commands = commands;
        this.codec = codec.get();
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.store = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        RecordMetadata from = context.recordMetadata().orElseThrow();
        if (from.topic().equals(commands)) {
            Halves.Read<Halves.Command> read = codec.command(record.value());
            if (read != null) {
                check(record.key(), read.value().orderId());
                command(record, from, read);
            }
        } else {
            Halves.Read<Halves.Order> read = codec.order(record.value());
            if (read != null) {
                check(record.key(), read.value().orderId());
                details(record, from, read);
            }
        }
    }

    private void command(Record<byte[], byte[]> record, RecordMetadata from, Halves.Read<Halves.Command> read) {
        Row row = Row.of(store.get(record.key()));
        String commandId = read.value().commandId();
        if (row.knows(commandId)) {
            return;
        }
        if (row.details == null) {
            row.waiting.add(new Row.Waiting(commandId, read.body()));
        } else {
            row.sent.add(commandId);
            send(record, from, read.value().orderId(), commandId, read.body(), row.details);
        }
        store.put(record.key(), row.toBytes());
    }

    private void details(Record<byte[], byte[]> record, RecordMetadata from, Halves.Read<Halves.Order> read) {
        Row row = Row.of(store.get(record.key()));
        if (row.details != null && row.version >= read.value().version()) {
            return;
        }
        row.version = read.value().version();
        row.details = read.body();
        for (Row.Waiting command : row.waiting) {
            row.sent.add(command.commandId());
            send(record, from, read.value().orderId(), command.commandId(), command.body(), row.details);
        }
        row.waiting.clear();
        store.put(record.key(), row.toBytes());
    }

    private void send(
            Record<byte[], byte[]> cause, RecordMetadata from, String orderId, String commandId, byte[] command, byte[] order) {
        String emailId = ids.of(orderId, commandId);
        RecordHeaders headers = new RecordHeaders();
        headers.add("ce_specversion", SPEC);
        headers.add("ce_source", SOURCE);
        headers.add("ce_type", TYPE);
        headers.add("ce_time", time());
        headers.add("ce_id", ascii(emailId));
        headers.add("ce_correlationid", ascii(commandId));
        headers.add("ce_causationid", ascii(from.topic() + "/" + from.partition() + "/" + from.offset()));
        byte[] email = codec.email(emailId, command, order);
        context.forward(new Record<>(cause.key(), email, cause.timestamp(), headers));
    }

    private byte[] time() {
        long nowMs = context.currentSystemTimeMs();
        if (nowMs != timeMs) {
            timeMs = nowMs;
            time = ascii(TIME.format(Instant.ofEpochMilli(nowMs)));
        }
        return time;
    }

    private static void check(byte[] key, String orderId) {
        if (!Arrays.equals(key, orderId.getBytes(StandardCharsets.UTF_8))) {
            throw new IllegalArgumentException("the key isn't the order's id");
        }
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }
}
