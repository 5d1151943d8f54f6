package peer;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** The id of a command's e-mail: a version 5 UUID of the contract's namespace, derived and never random. */
final class EmailIds {
    private static final byte[] NAMESPACE = HexFormat.of().parseHex("36776f6f3ceb5c6ea6d704a30185b077");
    private static final byte[] DIGITS = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);

    private final MessageDigest sha1;
    private final byte[] text = new byte[36];

    EmailIds() {
        try {
            sha1 = MessageDigest.getInstance("SHA-1");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    String of(String orderId, String commandId) {
        sha1.reset();
        sha1.update(NAMESPACE);
        byte[] hash = sha1.digest((commandId + "/email/" + orderId).getBytes(StandardCharsets.UTF_8));
        hash[6] = (byte) (hash[6] & 0x0f | 0x50);
        hash[8] = (byte) (hash[8] & 0x3f | 0x80);
        int at = 0;
        for (int i = 0; i < 16; i++) {
            if (i == 4 || i == 6 || i == 8 || i == 10) {
                text[at++] = '-';
            }
            text[at++] = DIGITS[(hash[i] >> 4) & 0xf];
            text[at++] = DIGITS[hash[i] & 0xf];
        }
        return new String(text, StandardCharsets.ISO_8859_1);
    }
}
