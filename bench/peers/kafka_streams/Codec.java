package peer;

/** Reads the two inputs whole, and writes the e-mail; values are in Confluent's wire format. */
interface Codec {
    /** Return the command, null if the value is another record of the topic. */
    Halves.Read<Halves.Command> command(byte[] value);

    /** Return the order, null if the value is another record of the topic. */
    Halves.Read<Halves.Order> order(byte[] value);

    /** Return a SendEmail of the bodies of a command and an order. */
    byte[] email(String emailId, byte[] command, byte[] order);
}
