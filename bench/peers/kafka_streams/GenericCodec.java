package peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** By Avro's generic records, as the usual serdes do it: read, and written again. */
final class GenericCodec implements Codec {
    private static final int FRAME_BYTES = 5;

    private final int commandId;
    private final int detailsId;
    private final int emailId;
    private final GenericDatumReader<GenericRecord> commandReader;
    private final GenericDatumReader<GenericRecord> detailsReader;
    private final GenericDatumReader<GenericRecord> orderReader;
    private final GenericDatumWriter<GenericRecord> commandWriter;
    private final GenericDatumWriter<GenericRecord> orderWriter;
    private final GenericDatumWriter<GenericRecord> emailWriter;
    private final Schema email;

    GenericCodec(int commandId, int detailsId, int emailId, Schema command, Schema details, Schema email) {
        this.commandId = commandId;
        this.detailsId = detailsId;
        this.emailId = emailId;
        this.email = email;
        Schema order = details.getField("order").schema();
        commandReader = new GenericDatumReader<>(command);
        detailsReader = new GenericDatumReader<>(details);
        orderReader = new GenericDatumReader<>(order);
        commandWriter = new GenericDatumWriter<>(command);
        orderWriter = new GenericDatumWriter<>(order);
        emailWriter = new GenericDatumWriter<>(email);
    }

    @Override
    public Halves.Read<Halves.Command> command(byte[] value) {
        if (ByteBuffer.wrap(value).getInt(1) != commandId) {
            return null;
        }
        GenericRecord read = read(commandReader, value, FRAME_BYTES);
        Halves.Command command =
                new Halves.Command(
                        text(read, "command_id"),
                        text(read, "order_id"),
                        (long) read.get("requested_at"),
                        text(read, "requested_by"),
                        text(read, "locale"));
        return new Halves.Read<>(command, write(commandWriter, read, null));
    }

    @Override
    public Halves.Read<Halves.Order> order(byte[] value) {
        if (ByteBuffer.wrap(value).getInt(1) != detailsId) {
            return null;
        }
        GenericRecord read = (GenericRecord) read(detailsReader, value, FRAME_BYTES).get("order");
        GenericRecord customer = (GenericRecord) read.get("customer");
        List<Halves.Line> lines = new ArrayList<>();
        for (Object item : (List<?>) read.get("lines")) {
            GenericRecord line = (GenericRecord) item;
            lines.add(
                    new Halves.Line(
                            text(line, "sku"),
                            text(line, "name"),
                            (int) line.get("quantity"),
                            (long) line.get("unit_price")));
        }
        Halves.Order order =
                new Halves.Order(
                        text(read, "order_id"),
                        (long) read.get("version"),
                        (long) read.get("placed_at"),
                        new Halves.Customer(text(customer, "customer_id"), text(customer, "name"), text(customer, "email")),
                        text(read, "currency"),
                        lines,
                        (long) read.get("total"),
                        text(read, "shipping_address"));
        return new Halves.Read<>(order, write(orderWriter, read, null));
    }

    @Override
    public byte[] email(String id, byte[] command, byte[] order) {
        GenericRecord made = new GenericData.Record(email);
        made.put("email_id", id);
        made.put("template", "order-confirmation");
        made.put("command", read(commandReader, command, 0));
        made.put("order", read(orderReader, order, 0));
        return write(emailWriter, made, ByteBuffer.allocate(FRAME_BYTES).put((byte) 0).putInt(emailId).array());
    }

    private static String text(GenericRecord record, String field) {
        return record.get(field).toString();
    }

    private static GenericRecord read(GenericDatumReader<GenericRecord> reader, byte[] value, int from) {
        try {
            BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(value, from, value.length - from, null);
            GenericRecord read = reader.read(null, decoder);
            if (!decoder.isEnd()) {
                throw new IllegalArgumentException("trailing bytes");
            }
            return read;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static byte[] write(GenericDatumWriter<GenericRecord> writer, GenericRecord record, byte[] frame) {
        try {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            if (frame != null) {
                out.write(frame);
            }
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
            writer.write(record, encoder);
            encoder.flush();
            return out.toByteArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
