package peer;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * By hand, for the fixed schemas of the contract: every field is read and becomes an object, and the bytes of the two
 * halves go into the e-mail as they came. Avro's encoding of a record is that of its fields one after the other.
 */
final class FastCodec implements Codec {
    private static final int FRAME_BYTES = 5;
    private static final byte[] TEMPLATE = "order-confirmation".getBytes(StandardCharsets.US_ASCII);

    private final int commandId;
    private final int detailsId;
    private final int emailId;
    private byte[] bytes;
    private int at;

    FastCodec(int commandId, int detailsId, int emailId) {
        this.commandId = commandId;
        this.detailsId = detailsId;
        this.emailId = emailId;
    }

    @Override
    public Halves.Read<Halves.Command> command(byte[] value) {
        if (begin(value) != commandId) {
            return null;
        }
        Halves.Command command = new Halves.Command(text(), text(), number(), text(), text());
        end();
        return new Halves.Read<>(command, rest(value, FRAME_BYTES));
    }

    @Override
    public Halves.Read<Halves.Order> order(byte[] value) {
        if (begin(value) != detailsId) {
            return null;
        }
        long branch = number();
        if (branch == 1) {
            text();
        } else if (branch != 0) {
            throw new IllegalArgumentException("no branch " + branch);
        }
        number();
        int from = at;
        Halves.Order order =
                new Halves.Order(
                        text(),
                        number(),
                        number(),
                        new Halves.Customer(text(), text(), text()),
                        text(),
                        lines(),
                        number(),
                        text());
        end();
        return new Halves.Read<>(order, rest(value, from));
    }

    @Override
    public byte[] email(String id, byte[] command, byte[] order) {
        int head = FRAME_BYTES + 1 + id.length() + 1 + TEMPLATE.length;
        byte[] value = new byte[head + command.length + order.length];
        value[1] = (byte) (emailId >>> 24);
        value[2] = (byte) (emailId >>> 16);
        value[3] = (byte) (emailId >>> 8);
        value[4] = (byte) emailId;
        value[5] = (byte) (id.length() << 1);
        for (int i = 0; i < id.length(); i++) {
            value[6 + i] = (byte) id.charAt(i);
        }
        value[6 + id.length()] = (byte) (TEMPLATE.length << 1);
        System.arraycopy(TEMPLATE, 0, value, 7 + id.length(), TEMPLATE.length);
        System.arraycopy(command, 0, value, head, command.length);
        System.arraycopy(order, 0, value, head + command.length, order.length);
        return value;
    }

    private int begin(byte[] value) {
        if (value.length < FRAME_BYTES || value[0] != 0) {
            throw new IllegalArgumentException("not framed");
        }
        bytes = value;
        at = FRAME_BYTES;
        return (value[1] & 0xff) << 24 | (value[2] & 0xff) << 16 | (value[3] & 0xff) << 8 | value[4] & 0xff;
    }

    private void end() {
        if (at != bytes.length) {
            throw new IllegalArgumentException("trailing bytes");
        }
    }

    private static byte[] rest(byte[] value, int from) {
        return java.util.Arrays.copyOfRange(value, from, value.length);
    }

    private long number() {
        long raw = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            byte next = bytes[at++];
            raw |= (long) (next & 0x7f) << shift;
            if (next >= 0) {
                return (raw >>> 1) ^ -(raw & 1);
            }
        }
        throw new IllegalArgumentException("number too long");
    }

    private int small() {
        return Math.toIntExact(number());
    }

    private String text() {
        int length = small();
        if (length < 0 || length > bytes.length - at) {
            throw new IllegalArgumentException("text beyond the end");
        }
        String text = new String(bytes, at, length, StandardCharsets.UTF_8);
        at += length;
        return text;
    }

    private List<Halves.Line> lines() {
        List<Halves.Line> lines = new ArrayList<>(4);
        for (long count = number(); count != 0; count = number()) {
            if (count < 0) {
                count = -count;
                number();
            }
            for (long i = 0; i < count; i++) {
                lines.add(new Halves.Line(text(), text(), small(), number()));
            }
        }
        return lines;
    }
}
