package peer;

import java.util.List;

/** The two records that are joined, read whole. */
final class Halves {
    private Halves() {}

    record Command(String commandId, String orderId, long requestedAt, String requestedBy, String locale) {}

    record Customer(String customerId, String name, String email) {}

    record Line(String sku, String name, int quantity, long unitPrice) {}

    record Order(
            String orderId,
            long version,
            long placedAt,
            Customer customer,
            String currency,
            List<Line> lines,
            long total,
            String shippingAddress) {}

    /** A record, and the bytes of it that go into a SendEmail. */
    record Read<T>(T value, byte[] body) {}
}
