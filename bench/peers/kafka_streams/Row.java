package peer;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * What is remembered of one order: its newest details, the commands that wait for them, and the ids of those whose
 * e-mail was sent, so that none is sent twice.
 *
 * <p>As bytes: version (8), length (4) and details; number (4) of sent ids, 36 bytes each; number (4) of waiting
 * commands, each as its id (36), length (4) and body.
 */
final class Row {
    private static final int ID_BYTES = 36;

    record Waiting(String commandId, byte[] body) {}

    long version = -1;
    byte[] details;
    final List<String> sent = new ArrayList<>(1);
    final List<Waiting> waiting = new ArrayList<>(1);

    static Row of(byte[] stored) {
        Row row = new Row();
        if (stored == null) {
            return row;
        }
        ByteBuffer in = ByteBuffer.wrap(stored);
        row.version = in.getLong();
        int length = in.getInt();
        if (length >= 0) {
            row.details = new byte[length];
            in.get(row.details);
        }
        for (int n = in.getInt(); n > 0; n--) {
            row.sent.add(id(in));
        }
        for (int n = in.getInt(); n > 0; n--) {
            String id = id(in);
            byte[] body = new byte[in.getInt()];
            in.get(body);
            row.waiting.add(new Waiting(id, body));
        }
        return row;
    }

    boolean knows(String commandId) {
        if (sent.contains(commandId)) {
            return true;
        }
        for (Waiting command : waiting) {
            if (command.commandId().equals(commandId)) {
                return true;
            }
        }
        return false;
    }

    byte[] toBytes() {
        int size = 20 + (details == null ? 0 : details.length) + ID_BYTES * sent.size();
        for (Waiting command : waiting) {
            size += ID_BYTES + 4 + command.body().length;
        }
        ByteBuffer out = ByteBuffer.allocate(size);
        out.putLong(version).putInt(details == null ? -1 : details.length);
        if (details != null) {
            out.put(details);
        }
        out.putInt(sent.size());
        for (String id : sent) {
            out.put(id.getBytes(StandardCharsets.ISO_8859_1));
        }
        out.putInt(waiting.size());
        for (Waiting command : waiting) {
            out.put(command.commandId().getBytes(StandardCharsets.ISO_8859_1));
            out.putInt(command.body().length).put(command.body());
        }
        return out.array();
    }

    private static String id(ByteBuffer in) {
        String id = new String(in.array(), in.position(), ID_BYTES, StandardCharsets.ISO_8859_1);
        in.position(in.position() + ID_BYTES);
        return id;
    }
}
